//! `pingress explain`: what happens to a request, from files or from the running gateway.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::admin::explain::{Ask, explain as answer};

use super::arguments::{Explain, Format};
use super::{Outcome, load, print};

/// How long the running gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Explains a request.
pub fn explain(arguments: &Explain) -> Outcome {
    let Some((url, paths)) = arguments.paths_and_url.split_last() else {
        return Err("name a URL, for example http://shop.example.com/cart".into());
    };
    match &arguments.admin {
        Some(admin) if paths.is_empty() => ask(admin, url, arguments)?,
        Some(_) => {
            return Err(
                "with --admin the running gateway knows the manifests; give only the URL".into(),
            );
        }
        None if paths.is_empty() => {
            return Err(format!(
                "name the manifests before the URL, as in `pingress explain manifests/ {url}`, or --admin ADDRESS"
            ));
        }
        None => offline(paths, url, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn offline(paths: &[String], url: &str, arguments: &Explain) -> Result<(), String> {
    let ask = Ask::new(url, &arguments.method, &arguments.headers, arguments.all)
        .map_err(|error| error.to_string())?;
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let compiled = load::compiled(&paths, &arguments.reading)?;
    let explained =
        answer(&compiled.plan, &compiled.endpoints, &ask).map_err(|error| error.to_string())?;
    match arguments.format {
        Format::Text => print(&explained.to_string()),
        Format::Json => {
            let text =
                serde_json::to_string_pretty(&explained).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"));
        }
    }
    Ok(())
}

/// Asks the admin endpoint and prints its answer.
fn ask(admin: &str, url: &str, arguments: &Explain) -> Result<(), String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("url", url)
        .append_pair("method", &arguments.method);
    for header in &arguments.headers {
        query.append_pair("header", header);
    }
    if arguments.all {
        query.append_pair("all", "true");
    }
    if arguments.format == Format::Json {
        query.append_pair("format", "json");
    }
    let unreachable = |error: std::io::Error| {
        format!(
            "cannot ask the gateway at {admin}: {error}; is it running, and is `gateway.admin.bind` that address?"
        )
    };
    let mut stream = TcpStream::connect(admin).map_err(unreachable)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(unreachable)?;
    // HTTP/1.0 asks for an answer that ends with the connection, in one piece.
    let request = format!(
        "GET /explain?{} HTTP/1.0\r\nHost: localhost\r\n\r\n",
        query.finish()
    );
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).map_err(unreachable)?;
    let received = String::from_utf8_lossy(&received);
    let (head, body) = received
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("{admin} did not answer as a gateway's admin endpoint does"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(body.trim().to_owned());
    }
    print(body);
    Ok(())
}
