//! Step 2: what the plan says about the request.

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::admit::host::without_port;
use super::answer;
use super::context::{Chosen, Context, index_of};
use super::hash;
use super::known::addresses;
use super::reply::Reply;
use crate::base::CauseKind;
use crate::plan::{Action, Decision, Fence, Listener, Misdirected, Plan, Request, Target};

/// What to do next.
pub(super) enum Step {
    Forward,
    Answer(Reply),
}

/// Decides the request and notes the choice.
pub(super) fn route(session: &Session, ctx: &mut Context) -> Step {
    let request = session.req_header();
    // Held here so that the decision may borrow from the plan while the context is filled.
    let serving = ctx.serving.clone();
    let found = match listener(session, ctx, &serving.plan) {
        Ok(found) => found,
        Err(Misdirected) => {
            let message = "the host is another server's, and this connection's TLS handshake was not on its terms";
            return Step::Answer(local(ctx, CauseKind::Misdirected, message));
        }
    };
    let Some(listener) = found else {
        return Step::Answer(local(
            ctx,
            CauseKind::RouteNotFound,
            "no Gateway listens here any more",
        ));
    };
    let (path, query) = ctx.path_and_query(request);
    let decision = listener.decide(&Request {
        host: host(ctx, request),
        authority: authority(request),
        path,
        query,
        method: &request.method,
        scheme: ctx.scheme(),
        headers: &request.headers,
        forwarded_https: ctx.forwarded_https,
    });
    match decision {
        Decision::Route {
            virtual_host,
            route,
            index,
        } => {
            ctx.chosen = index_of(&serving.plan.listeners, listener)
                .zip(index_of(&listener.virtual_hosts, virtual_host))
                .map(|(listener, virtual_host)| Chosen {
                    listener,
                    virtual_host,
                    route: index as usize,
                    destination: None,
                });
            act(ctx, request, listener, &route.action)
        }
        Decision::Fenced(fence) => Step::Answer(fenced(ctx, fence)),
        Decision::HttpsRedirect { server, .. } => {
            let reply = answer::https_redirect(ctx, request);
            ctx.note(
                CauseKind::HttpsRedirect,
                "the Gateway's server redirects to https",
            );
            if let Some(cause) = &mut ctx.cause {
                cause.owner = Some(server.clone());
            }
            Step::Answer(reply)
        }
        Decision::NoRoute { .. } => Step::Answer(local(
            ctx,
            CauseKind::RouteNotFound,
            "no rule of the host matches",
        )),
        Decision::NoHost => Step::Answer(local(
            ctx,
            CauseKind::RouteNotFound,
            "no Gateway serves this host",
        )),
    }
}

/// The listener whose routes hold: that of the socket, or of the server that TLS was made with.
fn listener<'p>(
    session: &Session,
    ctx: &Context,
    plan: &'p Plan,
) -> Result<Option<&'p Listener>, Misdirected> {
    let Some(address) = addresses(session, ctx).listener else {
        return Ok(None);
    };
    let Some(tls) = ctx
        .connection
        .as_ref()
        .and_then(|connection| connection.tls())
    else {
        return Ok(plan.listener(address));
    };
    let Some(socket) = plan.tls_socket(address) else {
        return Ok(None);
    };
    let name = tls.server_name.as_deref().unwrap_or_default();
    let host = host(ctx, session.req_header());
    let index = socket.listener(name, &tls.terms.client, host, plan.http.edge)?;
    Ok(index.and_then(|index| plan.listeners.get(index)))
}

/// In lower case, without the port.
fn host<'a>(ctx: &'a Context, request: &'a RequestHeader) -> &'a str {
    ctx.host
        .as_deref()
        .unwrap_or_else(|| without_port(authority(request)))
}

fn act(ctx: &mut Context, request: &RequestHeader, listener: &Listener, action: &Action) -> Step {
    match action {
        Action::Forward(forward) => {
            let destination = forward.pick(ctx.random);
            if let Some(chosen) = &mut ctx.chosen {
                chosen.destination =
                    destination.and_then(|picked| index_of(&forward.destinations, picked));
            }
            match destination.map(|destination| &destination.target) {
                Some(Target::Cluster(id)) => {
                    ctx.cluster = Some(*id);
                    hash::note(ctx, request);
                    choose_endpoint(ctx)
                }
                Some(Target::Missing { name, reason }) => {
                    let message = format!("{name}: {reason}");
                    Step::Answer(local(ctx, CauseKind::ClusterNotFound, message))
                }
                None => {
                    let message = "the rule has no destination";
                    Step::Answer(local(ctx, CauseKind::ClusterNotFound, message))
                }
            }
        }
        Action::Redirect { redirect, .. } => {
            ctx.note(CauseKind::DirectResponse, "the rule redirects");
            Step::Answer(answer::redirect(
                ctx,
                request,
                redirect,
                listener.declared_port,
            ))
        }
        Action::Direct { response, .. } => {
            ctx.note(CauseKind::DirectResponse, "the rule answers itself");
            Step::Answer(answer::direct(response))
        }
        Action::Fenced(fence) => Step::Answer(fenced(ctx, fence)),
    }
}

/// Picks here, not when Pingora asks for a peer: an answer given now keeps the connection open.
fn choose_endpoint(ctx: &mut Context) -> Step {
    match ctx.pick_endpoint() {
        Ok(()) => Step::Forward,
        Err(refused) => Step::Answer(local(ctx, refused.kind, refused.message)),
    }
}

/// An answer of ours, in Envoy's words.
fn local(
    ctx: &mut Context,
    kind: CauseKind,
    message: impl Into<std::borrow::Cow<'static, str>>,
) -> Reply {
    ctx.note(kind, message);
    Reply::of(kind)
}

fn fenced(ctx: &mut Context, fence: &Fence) -> Reply {
    ctx.note(CauseKind::Fenced, fence.reason.to_string());
    if let Some(cause) = &mut ctx.cause {
        cause.owner = Some(fence.origin.clone());
    }
    Reply::of(CauseKind::Fenced)
}
