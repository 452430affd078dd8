//! A small DNS server on loopback that answers what a test tells it to, and counts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the server says of a name.
#[derive(Clone)]
pub enum Says {
    Addresses(Vec<&'static str>, u32),
    Error(ResponseCode),
    Nothing,
}

pub struct Server {
    pub addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    says: HashMap<String, Says>,
    asked: HashMap<(String, RecordType), usize>,
}

impl Server {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let addr = socket.local_addr().expect("an address");
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let task = tokio::spawn(serve(socket, zone.clone()));
        Self { addr, zone, task }
    }

    pub fn say(&self, name: &str, says: Says) {
        self.zone
            .lock()
            .expect("a zone")
            .says
            .insert(format!("{name}."), says);
    }

    /// How often the IPv4 addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        let key = (format!("{name}."), RecordType::A);
        self.zone
            .lock()
            .expect("a zone")
            .asked
            .get(&key)
            .copied()
            .unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).expect("a DNS question");
        let answer = answer(&question, &mut zone.lock().expect("a zone"));
        if let Some(answer) = answer {
            let bytes = answer.to_vec().expect("an answer in wire form");
            socket
                .send_to(&bytes, client)
                .await
                .expect("a client that listens");
        }
    }
}

fn answer(question: &Message, zone: &mut Zone) -> Option<Message> {
    let query = question.queries.first()?.clone();
    let name = query.name().to_string();
    *zone
        .asked
        .entry((name.clone(), query.query_type()))
        .or_default() += 1;
    let mut answer = Message::response(question.id, OpCode::Query);
    match zone.says.get(&name)? {
        Says::Nothing => return None,
        Says::Error(code) => answer.metadata.response_code = *code,
        Says::Addresses(addresses, ttl) => {
            let addresses = addresses
                .iter()
                .map(|text| text.parse::<IpAddr>().expect("an address"));
            let family =
                addresses.filter(|ip| ip.is_ipv4() == (query.query_type() == RecordType::A));
            answer.add_answers(
                family.map(|ip| Record::from_rdata(query.name().clone(), *ttl, RData::from(ip))),
            );
        }
    }
    answer.add_query(query);
    Some(answer)
}
