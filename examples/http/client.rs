// Surfaces over HTTP, with the standard library: rustc client.rs && ./client http://HOST:PORT FILE.
// A program of more than one route takes a crate such as ureq; this one shows that nothing else is needed.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Shape [count, tenor, node] of sampled surfaces, and their vols.
fn sample(address: &str, count: u64, seed: u64) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>> {
    let host = address.strip_prefix("http://").ok_or("the address begins with http://")?;
    let json = format!("{{\"count\": {count}, \"seed\": {seed}}}");
    let mut line = TcpStream::connect(host)?;
    write!(
        line,
        "POST /sample HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/octet-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )?;
    let mut answer = Vec::new();
    line.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no answer")?;
    let (head, body) = (std::str::from_utf8(&answer[..end])?, &answer[end + 4..]);
    if !head.starts_with("HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(body).into());
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value).ok_or(format!("no header {name}"))
    };
    if header("content-length")?.parse::<usize>()? != body.len() {
        return Err("a broken answer".into());
    }
    let shape = header("volvae-shape")?.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let vols = body.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
    Ok((shape, vols))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (shape, vols) = sample(&arguments[1], 3, 7)?;
    let bytes: Vec<u8> = vols.iter().flat_map(|vol| vol.to_le_bytes()).collect();
    std::fs::write(&arguments[2], bytes)?;
    println!("{}", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" "));
    Ok(())
}
