//! Messages an edge must refuse, and limits that hold whatever a client does.

mod heads;
