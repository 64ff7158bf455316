//! The wire itself: frames of real clients and of Apache Kafka, and every version of every API.
//!
//! Owns: whole frames in and out. Deliberately absent: behaviour (the files beside this one).

mod golden;
mod versions;

use std::io::{Read, Write};

use super::Client;

/// Sends one frame as it is and waits for one; neither has its length prefix here.
fn exchange(client: &mut Client, request: &[u8]) -> Vec<u8> {
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    client.stream.write_all(&[&length[..], request].concat()).unwrap();
    let mut length = [0; 4];
    client.stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    client.stream.read_exact(&mut answer).unwrap();
    answer
}
