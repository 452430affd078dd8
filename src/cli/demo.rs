//! `pingress demo`: three origins and a gateway on loopback, and what to try with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::server::{Settings, boot, logging};

use super::arguments::{Demo, Reading};
use super::origin::{self, Origin};
use super::{Outcome, load, print};

/// The manifests the demo serves, as `conf/quickstart/` holds them.
const MANIFESTS: [(&str, &str); 3] = [
    (
        "gateway.yaml",
        include_str!("../../conf/quickstart/gateway.yaml"),
    ),
    (
        "routes.yaml",
        include_str!("../../conf/quickstart/routes.yaml"),
    ),
    (
        "services.yaml",
        include_str!("../../conf/quickstart/services.yaml"),
    ),
];

/// The endpoints that `services.yaml` names.
const ORIGINS: [Origin; 3] = [
    Origin {
        service: "shop",
        version: "v1",
        port: 18081,
    },
    Origin {
        service: "shop",
        version: "v2",
        port: 18082,
    },
    Origin {
        service: "cart",
        version: "v1",
        port: 18083,
    },
];

/// Runs the demo until Ctrl-C.
pub fn demo(arguments: &Demo) -> Outcome {
    logging::start();
    free(arguments.port)?;
    origin::start(&ORIGINS)?;
    let folder = Folder::open()?;
    let reading = Reading {
        settings: None,
        namespace: "default".to_owned(),
    };
    let mut settings = Settings::default();
    settings.gateway.ports = BTreeMap::from([(80, arguments.port)]);
    settings.gateway.bind = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    settings.gateway.status.bind = "127.0.0.1:15021".to_owned();
    settings.gateway.metrics.bind = "127.0.0.1:15020".to_owned();
    settings.gateway.mesh.access_log_file = "/dev/stdout".to_owned();
    print(&lines(arguments.port, folder.path()));
    let load = load::load_options(&reading, &settings);
    let paths = vec![folder.path().to_owned()];
    boot::run(boot::Boot {
        paths,
        settings,
        load,
        start_partial: false,
        upgrade: false,
    })
    .map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the gateway will get its port, so that the demo fails at once and with what to do.
fn free(port: u16) -> Result<(), String> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .map_err(|error| {
            format!("cannot listen on 127.0.0.1:{port}: {error}; choose another with --port")
        })
}

fn lines(port: u16, folder: &Path) -> String {
    let base = format!("http://127.0.0.1:{port}");
    format!(
        "Pingress serves {folder} on {base}. Try, in another terminal:\n\n\
         \x20 curl {base}/cart                     # path routing: the cart service\n\
         \x20 for i in $(seq 50); do curl -s {base}/ | head -1; done | sort | uniq -c   # a 90/10 split\n\
         \x20 curl -H 'x-beta: true' {base}/       # header routing: always shop v2\n\
         \x20 curl {base}/api/items                # a rewrite: the origin sees /items\n\
         \x20 curl -i {base}/old                   # a redirect to /\n\
         \x20 curl {base}/hello                    # a direct response, without an origin\n\n\
         \x20 pingress explain --admin 127.0.0.1:15000 {base}/cart   # why\n\
         \x20 pingress check {folder}              # what is wrong: nothing\n\n\
         Change a file there and ask again: it is live at once. Ctrl-C ends all of it.\n\n",
        folder = folder.display(),
    )
}

/// `conf/quickstart/` where there is one, else a copy that is removed at the end.
enum Folder {
    Repository(PathBuf),
    Copy(PathBuf),
}

impl Folder {
    fn open() -> Result<Self, String> {
        let repository = PathBuf::from("conf/quickstart");
        if repository.join("gateway.yaml").is_file() {
            return Ok(Self::Repository(repository));
        }
        let copy = std::env::temp_dir().join(format!("pingress-demo-{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir(&copy)?;
            for (name, text) in MANIFESTS {
                std::fs::write(copy.join(name), text)?;
            }
            Ok(())
        };
        write().map_err(|error| {
            format!(
                "cannot write the demo's manifests to {}: {error}",
                copy.display()
            )
        })?;
        Ok(Self::Copy(copy))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Repository(path) | Self::Copy(path) => path,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Self::Copy(path) = self {
            // Nothing can be done about a folder that cannot be removed; the system clears it.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
