//! Pingress: an edge gateway on Pingora that serves Istio manifests without a control plane.
//!
//! Two flows meet in one immutable [`plan::Plan`]. The slow flow turns what users wrote into a
//! plan and findings: [`source`] reads, [`model`] holds the words, [`compile`] gives them meaning.
//! The fast flow serves each request from the plan it loaded once: [`listener`] owns sockets,
//! [`proxy`] handles a request step by step, [`upstream`] holds clusters, [`observe`] records.
//! [`server`] is the life of the process, [`admin`] the operator's endpoint, [`cli`] the commands.

pub mod admin;
pub mod base;
pub mod cli;
pub mod compile;
pub mod listener;
pub mod model;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod source;
pub mod upstream;
