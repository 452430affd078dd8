//! Istio's metrics of connections that are not HTTP: one series per cluster
//! and flags.
//!
//! Every label comes from configuration, from the gateway or from a closed set, so no client can
//! add a series. A series is looked up when a connection opens, reports and closes, never per byte.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::plan::Cluster;

use super::requests::{destination_labels, push_label};

/// Bytes that moved between a client and the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

/// The four metrics.
#[derive(Debug)]
pub(super) struct Streams {
    /// The labels every series shares, rendered.
    source: String,
    series: RwLock<Table>,
}

/// Cluster name (empty: unrouted) to its series by flags; a cluster has few.
type Table = HashMap<Arc<str>, Vec<(Box<str>, Arc<Series>)>>;

#[derive(Debug)]
struct Series {
    labels: Box<str>,
    opened: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Streams {
    pub(super) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            series: RwLock::default(),
        }
    }

    /// A connection reached its origin.
    pub(super) fn opened(&self, cluster: Option<&Cluster>) {
        let series = self.series(cluster, "");
        series.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of a connection that goes on.
    pub(super) fn moved(&self, cluster: Option<&Cluster>, transfer: Transfer) {
        self.series(cluster, "").add(transfer);
    }

    /// A connection is over; one that never reached an origin is counted as opened too, as Istio
    /// does.
    pub(super) fn closed(
        &self,
        cluster: Option<&Cluster>,
        flags: &str,
        was_opened: bool,
        rest: Transfer,
    ) {
        let series = self.series(cluster, flags);
        if !was_opened {
            series.opened.fetch_add(1, Ordering::Relaxed);
        }
        series.closed.fetch_add(1, Ordering::Relaxed);
        series.add(rest);
    }

    /// Forgets the clusters that no plan names any more.
    pub(super) fn retain(&self, live: &HashSet<&str>) {
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|name, _| name.is_empty() || live.contains(&**name));
    }

    fn series(&self, cluster: Option<&Cluster>, flags: &str) -> Arc<Series> {
        let name = cluster.map_or("", |cluster| &*cluster.name);
        let find = |table: &Table| {
            let mut known = table.get(name)?.iter();
            known
                .find(|(known, _)| **known == *flags)
                .map(|(_, series)| series.clone())
        };
        {
            let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = find(&table) {
                return known;
            }
        }
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find(&table) {
            return known;
        }
        let series = Arc::new(Series::new(&self.source, cluster, flags));
        let all = table.entry(name.into()).or_default();
        all.push((flags.into(), series.clone()));
        series
    }

    /// All four in the text format; nothing if there was no connection.
    pub(super) fn render(&self) -> String {
        let all: Vec<Arc<Series>> = {
            let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
            let series = table.values().flatten();
            series.map(|(_, series)| series.clone()).collect()
        };
        let mut text = String::new();
        if all.is_empty() {
            return text;
        }
        type Pick = fn(&Series) -> &AtomicU64;
        let families: [(&str, &str, Pick); 4] = [
            (
                "istio_tcp_connections_opened_total",
                "Connections that are not HTTP, opened.",
                |series| &series.opened,
            ),
            (
                "istio_tcp_connections_closed_total",
                "Connections that are not HTTP, closed.",
                |series| &series.closed,
            ),
            (
                "istio_tcp_sent_bytes_total",
                "Bytes sent to clients on connections that are not HTTP.",
                |series| &series.sent,
            ),
            (
                "istio_tcp_received_bytes_total",
                "Bytes received from clients on connections that are not HTTP.",
                |series| &series.received,
            ),
        ];
        for (name, help, pick) in families {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for series in &all {
                let value = pick(series).load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}{{{}}} {value}", series.labels);
            }
        }
        text
    }
}

impl Series {
    fn new(source: &str, cluster: Option<&Cluster>, flags: &str) -> Self {
        let mut labels = source.to_owned();
        destination_labels(&mut labels, cluster);
        push_label(&mut labels, "request_protocol", "tcp");
        let flags = if flags.is_empty() { "-" } else { flags };
        push_label(&mut labels, "response_flags", flags);
        push_label(&mut labels, "connection_security_policy", "unknown");
        Self {
            labels: labels.into(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    fn add(&self, transfer: Transfer) {
        self.sent.fetch_add(transfer.sent, Ordering::Relaxed);
        self.received
            .fetch_add(transfer.received, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_opens_moves_bytes_and_closes_in_the_series_of_its_cluster() {
        let streams = Streams::new("reporter=\"source\"");
        assert_eq!(streams.render(), "");
        streams.opened(None);
        let some = Transfer {
            received: 3,
            sent: 5,
        };
        streams.moved(None, some);
        streams.closed(None, "", true, some);
        streams.closed(None, "UF,URX", false, Transfer::default());
        let text = streams.render();
        let values = |family: &str, flags: &str| {
            let flags = format!("response_flags=\"{flags}\"");
            let mut lines = text.lines();
            let line = lines.find(|line| line.starts_with(family) && line.contains(&flags));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        };
        assert_eq!(values("istio_tcp_connections_opened_total", "-"), Some(1));
        assert_eq!(values("istio_tcp_connections_closed_total", "-"), Some(1));
        assert_eq!(values("istio_tcp_received_bytes_total", "-"), Some(6));
        assert_eq!(values("istio_tcp_sent_bytes_total", "-"), Some(10));
        assert_eq!(
            values("istio_tcp_connections_opened_total", "UF,URX"),
            Some(1)
        );
        assert_eq!(
            values("istio_tcp_connections_closed_total", "UF,URX"),
            Some(1)
        );
    }
}
