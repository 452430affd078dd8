//! `fault`: delays and aborts, as far as Istio hands them to its proxies.

use crate::base::quantity::parse_duration;
use crate::base::{Share, grpc};
use crate::model::istio::Percent;
use crate::model::istio::virtual_service::{
    Abort as WrittenAbort, Delay as WrittenDelay, Fault as Written,
};
use crate::policy::fault::spec::{Abort, AbortStatus, Delay, Fault};

/// Compiles a fault; `None` if it takes nobody.
///
/// # Errors
/// One sentence that says which value is wrong.
pub(super) fn compile(written: &Written) -> Result<Option<Fault>, String> {
    let fault = Fault {
        delay: written.delay.as_ref().map(delay).transpose()?.flatten(),
        abort: written.abort.as_ref().map(abort).transpose()?.flatten(),
    };
    Ok((fault != Fault::default()).then_some(fault))
}

fn delay(written: &WrittenDelay) -> Result<Option<Delay>, String> {
    if written.exponential_delay.is_some() {
        return Err("`exponentialDelay` is not supported by Istio".into());
    }
    let Some(text) = &written.fixed_delay else {
        return Ok(None);
    };
    let duration = parse_duration(text, false)?;
    let whole = written.percent.map_or(0.0, f64::from);
    let share = written.percentage.map_or(Share::of_percent(whole), share);
    Ok((!share.is_none()).then_some(Delay { duration, share }))
}

fn abort(written: &WrittenAbort) -> Result<Option<Abort>, String> {
    if written.http2_error.is_some() {
        return Err("`http2Error` is not supported by Istio".into());
    }
    let status = match (written.http_status, written.grpc_status.as_deref()) {
        (Some(_), Some(_)) => {
            return Err("only one of `httpStatus` and `grpcStatus` may be set".into());
        }
        (None, None) => return Ok(None),
        (Some(status), None) => {
            let fits = u16::try_from(status).ok();
            let fits = fits.filter(|status| (200..=600).contains(status));
            AbortStatus::Http(fits.ok_or_else(|| format!("{status} is no status of an answer"))?)
        }
        (None, Some(name)) => {
            let number = (0..).zip(grpc::STATUSES).find(|(_, known)| *known == name);
            let (number, _) = number.ok_or_else(|| format!("`{name}` is not a gRPC status"))?;
            AbortStatus::Grpc(number)
        }
    };
    let share = written.percentage.map_or(Share::NONE, share);
    Ok((!share.is_none()).then_some(Abort { status, share }))
}

fn share(percent: Percent) -> Share {
    Share::of_percent(percent.value.unwrap_or(0.0))
}

/// What of a fault never happens, and why: field and sentence.
pub(super) fn inert(written: &Written) -> Vec<(&'static str, &'static str)> {
    let mut inert = Vec::new();
    if let Some(delay) = &written.delay {
        if delay.fixed_delay.is_none() {
            inert.push(("delay", "without `fixedDelay` nothing is delayed"));
        } else if delay.percentage.is_none() && delay.percent.is_none() {
            inert.push(("delay", "without `percentage` no request is delayed"));
        }
    }
    if let Some(abort) = &written.abort {
        if abort.http_status.is_none() && abort.grpc_status.is_none() {
            inert.push((
                "abort",
                "without `httpStatus` or `grpcStatus` nothing is aborted",
            ));
        } else if abort.percentage.is_none() {
            inert.push(("abort", "without `percentage` no request is aborted"));
        }
    }
    inert
}
