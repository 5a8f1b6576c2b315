//! Ports that no other test has: the proxy listener shares its port between workers, so that two gateways on one port
//! would not notice each other.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is ours until this is dropped, the process ending included.
#[derive(Debug)]
pub struct Port {
    /// The port.
    pub number: u16,
    _claim: File,
}

impl Port {
    /// The port on the loopback address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Below the range from which the kernel takes the ports of outgoing connections.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Claims a free port by a lock on a file that is named after it.
pub fn claim() -> Port {
    let folder = std::env::temp_dir().join("carta-gateway-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let start = (std::process::id().wrapping_mul(37) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + start.wrapping_add(step) % COUNT;
        let claim = File::create(folder.join(number.to_string())).unwrap();
        if claim.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Port { number, _claim: claim };
        }
    }
    panic!("no free port");
}
