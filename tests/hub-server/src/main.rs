//! Serves an empty Hub until standard input ends. Prints its address.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use hub_server::{Hub, READ_TOKEN, TOKEN};

fn main() -> std::io::Result<()> {
    let hub = Hub::start();
    println!("HF_ENDPOINT={}\nHF_TOKEN={TOKEN}\nREAD_TOKEN={READ_TOKEN}", hub.endpoint());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map(drop)
}
