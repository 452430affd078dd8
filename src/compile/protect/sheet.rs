//! The guards of every listener while they are being handed out.

use std::collections::BTreeMap;

use crate::plan::{Guarding, Guards, Listener};

/// A place in the listeners, by indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    /// All its requests, those for which there is no rule included.
    Listener(usize),
    /// Those for which there is no rule.
    Unrouted(usize),
    Host(usize, usize),
    Route(usize, usize, usize),
}

/// By listener; those without policies have none.
#[derive(Debug, Default)]
pub(super) struct Sheets(BTreeMap<usize, Sheet>);

#[derive(Debug, Default)]
struct Sheet {
    unrouted: Guards,
    /// By host and route; empty as long as all are alike.
    cells: Vec<Vec<Guards>>,
}

impl Sheets {
    /// Adds a guard at a place.
    pub(super) fn add(&mut self, listeners: &[Listener], spot: Spot, add: impl Fn(&mut Guards)) {
        let (Spot::Listener(index)
        | Spot::Unrouted(index)
        | Spot::Host(index, _)
        | Spot::Route(index, ..)) = spot;
        let sheet = self.0.entry(index).or_default();
        if !matches!(spot, Spot::Listener(_))
            && sheet.cells.is_empty()
            && let Some(listener) = listeners.get(index)
        {
            let hosts = listener.virtual_hosts.iter();
            let cells = |count: usize| vec![sheet.unrouted.clone(); count];
            sheet.cells = hosts.map(|host| cells(host.routes.len())).collect();
        }
        match spot {
            Spot::Listener(_) => {
                add(&mut sheet.unrouted);
                sheet.cells.iter_mut().flatten().for_each(add);
            }
            Spot::Unrouted(_) => add(&mut sheet.unrouted),
            Spot::Host(_, host) => {
                let routes = sheet.cells.get_mut(host).into_iter().flatten();
                routes.for_each(add);
            }
            Spot::Route(_, host, route) => {
                let routes = sheet.cells.get_mut(host);
                if let Some(cell) = routes.and_then(|routes| routes.get_mut(route)) {
                    add(cell);
                }
            }
        }
    }

    /// Gives the listeners what is theirs.
    pub(super) fn hand_out(self, listeners: &mut [Listener]) {
        for (index, sheet) in self.0 {
            if let Some(listener) = listeners.get_mut(index) {
                listener.guarding = Guarding::new(sheet.unrouted, sheet.cells);
            }
        }
    }
}
