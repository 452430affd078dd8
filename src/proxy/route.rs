//! Step 2: what the plan says about the request.

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::admit::host::without_port;
use super::answer;
use super::context::{Chosen, Context, index_of};
use super::grpc_web;
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

/// Where the plan leads.
pub(super) enum Routed {
    /// To a rule, which is noted.
    Rule,
    /// To no rule; what applies to every request of a listener or host still comes first.
    Nowhere(Reply),
    /// To nothing that may be served.
    Fenced(Reply),
}

/// Decides the request and notes the choice.
pub(super) fn route(session: &Session, ctx: &mut Context) -> Routed {
    let request = session.req_header();
    // Held here so that the decision may borrow from the plan while the context is filled.
    let serving = ctx.serving.clone();
    let found = match listener(session, ctx, &serving.plan) {
        Ok(found) => found,
        Err(Misdirected) => {
            let message = "the host is another server's, and this connection's TLS handshake was not on its terms";
            return Routed::Fenced(local(ctx, CauseKind::Misdirected, message));
        }
    };
    let Some(listener) = found else {
        return Routed::Fenced(local(
            ctx,
            CauseKind::RouteNotFound,
            "no Gateway listens here any more",
        ));
    };
    if listener.grpc_web {
        ctx.grpc_web = grpc_web::read(request);
    }
    ctx.came_in = index_of(&serving.plan.listeners, listener);
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
            ctx.chosen = ctx
                .came_in
                .zip(index_of(&listener.virtual_hosts, virtual_host))
                .map(|(listener, virtual_host)| Chosen {
                    listener,
                    virtual_host,
                    route: index as usize,
                    destination: None,
                });
            if let Action::Fenced(fence) = &*route.action {
                return Routed::Fenced(fenced(ctx, fence));
            }
            choose_destination(ctx, request);
            Routed::Rule
        }
        Decision::Fenced(fence) => Routed::Fenced(fenced(ctx, fence)),
        Decision::HttpsRedirect { server, .. } => {
            let reply = answer::https_redirect(ctx, request);
            ctx.blame(
                CauseKind::HttpsRedirect,
                "the Gateway's server redirects to https",
                Some(server.clone()),
            );
            Routed::Nowhere(reply)
        }
        Decision::NoRoute { .. } => Routed::Nowhere(local(
            ctx,
            CauseKind::RouteNotFound,
            "no rule of the host matches",
        )),
        Decision::NoHost => Routed::Nowhere(local(
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

/// Chooses the destination among a rule's, before anything is done: header edits of every answer
/// depend on it.
fn choose_destination(ctx: &mut Context, request: &RequestHeader) {
    let Some(forward) = ctx.forward() else {
        return;
    };
    let picked = forward.pick(ctx.random);
    let destination = picked.and_then(|picked| index_of(&forward.destinations, picked));
    let cluster = match picked.map(|destination| &destination.target) {
        Some(Target::Cluster(id)) => Some(*id),
        _ => None,
    };
    if let Some(chosen) = &mut ctx.chosen {
        chosen.destination = destination;
    }
    ctx.cluster = cluster;
    if cluster.is_some() {
        hash::note(ctx, request);
    }
}

/// Does what the noted rule is for.
pub(super) fn serve(session: &Session, ctx: &mut Context) -> Step {
    // Held here so that the action may be borrowed while the context is filled.
    let serving = ctx.serving.clone();
    let request = session.req_header();
    let found = ctx.chosen.and_then(|chosen| {
        let listener = serving.plan.listeners.get(chosen.listener)?;
        let host = listener.virtual_hosts.get(chosen.virtual_host)?;
        Some((listener, host.routes.get(chosen.route)?))
    });
    let Some((listener, route)) = found else {
        let message = "the rule is not there any more";
        return Step::Answer(local(ctx, CauseKind::Internal, message));
    };
    match &*route.action {
        Action::Forward(_) if ctx.cluster.is_some() => choose_endpoint(ctx),
        Action::Forward(_) => Step::Answer(missing(ctx)),
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

/// The answer of a destination that does not exist.
fn missing(ctx: &mut Context) -> Reply {
    let message = match ctx.destination().map(|destination| &destination.target) {
        Some(Target::Missing { name, reason }) => format!("{name}: {reason}"),
        _ => "the rule has no destination".to_owned(),
    };
    local(ctx, CauseKind::ClusterNotFound, message)
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
    let owner = Some(fence.origin.clone());
    ctx.blame(CauseKind::Fenced, fence.reason.to_string(), owner);
    Reply::of(CauseKind::Fenced)
}
