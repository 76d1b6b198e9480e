//! Free ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::Error;

/// Below the ports that kernels hand to outgoing connections (from 32768 on Linux, 49152 elsewhere),
/// so that no connection takes the port of a broker that is down, and none connects to itself.
const FROM: u16 = 10_000;
const TO: u16 = 32_000;

/// `count` ports of 127.0.0.1 that nobody listens on now. No port is given twice by one process.
///
/// Another process can still take one before it is used; the starting point depends on process and
/// time to make that unlikely.
///
/// # Errors
/// Too few are free.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    static CURSOR: OnceLock<AtomicU32> = OnceLock::new();
    let cursor = CURSOR.get_or_init(|| AtomicU32::new(starting_point()));
    let span = u32::from(TO - FROM);
    let candidates = (0..span).map(|_| {
        let at = cursor.fetch_add(1, Ordering::Relaxed) % span;
        FROM + at as u16
    });
    let free: Vec<u16> = candidates.filter(|port| is_free(*port)).take(count).collect();
    if free.len() < count {
        return Err(Error::NoPorts { wanted: count, from: FROM, to: TO });
    }
    Ok(free)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn starting_point() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Multiplied by odd numbers so that processes started together begin far apart.
    std::process::id().wrapping_mul(7_919) ^ now.subsec_nanos().wrapping_mul(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_distinct() {
        let mut ports = free_ports(30).unwrap();
        ports.extend(free_ports(30).unwrap());
        assert!(ports.iter().all(|port| (FROM..TO).contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 60);
    }

    #[test]
    fn taken_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
