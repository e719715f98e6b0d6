//! Which web pages may use the server: its own alone.
//!
//! A browser lets any page send requests and open WebSockets to this machine. It tells the truth in
//! two headers, though: `Origin` is the page's, and `Host` is the name that the page used. A page
//! whose own name was made to point here sends an `Origin` equal to its `Host`; but that name is not
//! a loopback one.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Kind, Problem};
use crate::serve::Bind;

/// Lets a request through unless a page of another origin sent it.
pub(crate) async fn same_origin(
    State(bind): State<Bind>,
    request: Request,
    next: Next,
) -> Response {
    match permit(bind, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn permit(bind: Bind, headers: &HeaderMap) -> Result<(), Problem> {
    let host = match headers.get(HOST) {
        None => None,
        Some(host) => Some(parse::<Authority>(host).ok_or_else(|| {
            Problem::new(Kind::Malformed, "the header `host` is not a host and port")
        })?),
    };
    if let (Bind::LoopbackOnly, Some(host)) = (bind, &host)
        && !is_loopback(host.host())
    {
        let detail = "this server answers to the names of this machine only: use http://127.0.0.1 or http://localhost with its port";
        return Err(Problem::new(Kind::Misdirected, detail));
    }
    match (headers.get(ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host))
            if parse::<Uri>(origin).is_some_and(|origin| is_of(&origin, &host)) =>
        {
            Ok(())
        }
        (Some(_), _) => Err(Problem::new(
            Kind::Forbidden,
            "a page may use only the server that it comes from",
        )),
    }
}

fn parse<T: std::str::FromStr>(value: &HeaderValue) -> Option<T> {
    value.to_str().ok()?.parse().ok()
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a page of `origin` comes from `host`. The port is left out where it is the scheme's own.
fn is_of(origin: &Uri, host: &Authority) -> bool {
    let scheme_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    origin.authority().is_some_and(|origin| {
        origin.host().eq_ignore_ascii_case(host.host())
            && origin.port_u16().unwrap_or(scheme_port) == host.port_u16().unwrap_or(scheme_port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(
        bind: Bind,
        host: Option<&'static str>,
        origin: Option<&'static str>,
    ) -> Option<Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        permit(bind, &headers).err()
    }

    #[test]
    fn programs_and_the_servers_own_pages_are_let_in() {
        for (host, origin) in [
            (Some("127.0.0.1:7878"), None),
            (Some("localhost:7878"), Some("http://localhost:7878")),
            (Some("[::1]:7878"), Some("http://[::1]:7878")),
            (Some("LOCALHOST"), Some("http://localhost")),
            (Some("localhost:80"), Some("http://localhost")),
            (Some("localhost"), Some("https://localhost:443")),
            (None, None),
        ] {
            assert!(
                kind(Bind::LoopbackOnly, host, origin).is_none(),
                "{host:?} {origin:?}"
            );
        }
        let public = (Some("velo.example"), Some("https://velo.example"));
        assert!(kind(Bind::AnyAddress, public.0, public.1).is_none());
    }

    #[test]
    fn pages_of_another_origin_are_kept_out() {
        for origin in [
            "http://evil.example",
            "http://localhost:7879",
            "http://127.0.0.1:7878",
            "http://localhost",
            "https://localhost",
            "null",
            "file://localhost:7878",
            "http://localhost:7878.evil.example",
        ] {
            for bind in [Bind::LoopbackOnly, Bind::AnyAddress] {
                assert!(
                    kind(bind, Some("localhost:7878"), Some(origin)).is_some(),
                    "{origin}"
                );
            }
        }
        assert!(kind(Bind::AnyAddress, None, Some("http://localhost")).is_some());
    }

    #[test]
    fn a_foreign_name_that_points_here_is_not_answered_on_loopback() {
        for host in [
            "evil.example:7878",
            "localhost.evil.example",
            "192.168.1.7",
            "127.0.0.1.evil.example",
        ] {
            assert!(
                kind(Bind::LoopbackOnly, Some(host), None).is_some(),
                "{host}"
            );
        }
    }
}
