//! A name server whose answers change.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

/// A name server with these services and addresses, each for one second.
pub(crate) async fn name_server(records: Arc<Mutex<Vec<(RecordType, RData)>>>) -> SocketAddr {
    name_server_failing(records, Arc::default()).await
}

/// The same for one that cannot answer for some types.
pub(crate) async fn name_server_failing(
    records: Arc<Mutex<Vec<(RecordType, RData)>>>,
    failing: Arc<Mutex<Vec<RecordType>>>,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let address = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let query = question.queries.first().cloned().expect("it asks for something");
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.add_query(query.clone());
            let records = records.lock().expect("nobody panicked").clone();
            let fails = failing.lock().expect("nobody panicked").contains(&query.query_type());
            if records.is_empty() || fails {
                answer.metadata.response_code = ResponseCode::ServFail;
            }
            for (_, data) in records.into_iter().filter(|(kind, _)| *kind == query.query_type() && !fails) {
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
            }
            socket.send_to(&answer.to_vec().expect("an answer"), client).await.ok();
        }
    });
    address
}
