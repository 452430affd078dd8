//! Rules that answer by themselves: `redirect` and `directResponse`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::model::istio::virtual_service::{
    Body, DirectResponse as WrittenResponse, Redirect as WrittenRedirect,
};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};

/// Istio's limit on a direct response's body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Compiles a redirect for a match whose prefix has the given length.
///
/// # Errors
/// One sentence that says which field is wrong.
pub(crate) fn redirect(
    written: &WrittenRedirect,
    prefix: Option<usize>,
) -> Result<Redirect, String> {
    let status = match written.redirect_code.unwrap_or(0) {
        0 => 301,
        code @ (301 | 302 | 303 | 307 | 308) => u16::try_from(code).unwrap_or(301),
        code => {
            return Err(format!(
                "the redirect code {code} is not one of 301, 302, 303, 307 and 308"
            ));
        }
    };
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let path = match (text(&written.uri), text(&written.prefix_rewrite)) {
        (Some(_), Some(_)) => return Err("only one of `uri` and `prefixRewrite` may be set".into()),
        (Some(uri), None) => Some(RedirectPath::Full(uri)),
        (None, Some(with)) => match prefix {
            Some(length) => Some(RedirectPath::Prefix { length, with }),
            None => return Err("`prefixRewrite` needs a match on a `uri` prefix".into()),
        },
        (None, None) => None,
    };
    let port = match (written.port, written.derive_port.as_deref()) {
        (Some(_), Some(_)) => return Err("only one of `port` and `derivePort` may be set".into()),
        (Some(port), None) => match u16::try_from(port) {
            Ok(0) => RedirectPort::Keep,
            Ok(port) => RedirectPort::Fixed(port),
            Err(_) => return Err(format!("the port {port} is not between 1 and 65535")),
        },
        (None, Some("FROM_REQUEST_PORT")) => RedirectPort::FromRequest,
        (None, None | Some("FROM_PROTOCOL_DEFAULT")) => RedirectPort::Keep,
        (None, Some(other)) => {
            return Err(format!(
                "`{other}` is not FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT"
            ));
        }
    };
    let scheme = text(&written.scheme);
    if let Some(scheme) = scheme
        .as_deref()
        .filter(|scheme| !matches!(*scheme, "http" | "https"))
    {
        return Err(format!("the scheme `{scheme}` is not `http` or `https`"));
    }
    let authority = text(&written.authority);
    let fits_header = |text: &String| !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f);
    let texts = [
        written.uri.as_ref(),
        written.prefix_rewrite.as_ref(),
        written.authority.as_ref(),
    ];
    if !texts.into_iter().flatten().all(fits_header) {
        return Err("the target contains a control character".into());
    }
    Ok(Redirect {
        status,
        path,
        authority,
        scheme,
        port,
    })
}

/// Compiles a direct response.
///
/// # Errors
/// One sentence that says which field is wrong.
pub(crate) fn direct(written: &WrittenResponse) -> Result<DirectResponse, String> {
    let status = written.status.unwrap_or(0);
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (200..=600).contains(status))
        .ok_or_else(|| format!("the status {status} is not between 200 and 599"))?;
    let body = match &written.body {
        None => Bytes::new(),
        Some(Body {
            string: Some(_),
            bytes: Some(_),
        }) => {
            return Err("only one of `string` and `bytes` may be set".into());
        }
        Some(Body {
            string: Some(text), ..
        }) => Bytes::copy_from_slice(text.as_bytes()),
        Some(Body {
            bytes: Some(text), ..
        }) => decode(text)?,
        Some(_) => Bytes::new(),
    };
    if body.len() > MAX_BODY {
        return Err("the body is larger than 1 MiB".into());
    }
    Ok(DirectResponse { status, body })
}

/// Base64 as protobuf's JSON reads it: both alphabets, padding optional.
fn decode(text: &str) -> Result<Bytes, String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let bytes = GeneralPurpose::new(alphabet, config).decode(text);
    bytes
        .map(Bytes::from)
        .map_err(|_| "`bytes` is not base64".into())
}
