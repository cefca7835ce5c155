//! Sends datagrams of drills back to where they came from. The other end is [`crate::stream`].

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::stream::LENGTH;

/// Between looks at whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Echoes what comes to `socket` until `stop` is set; gives how many datagrams that were. Only what a drill may have sent is
/// echoed, in the same size: nothing is gained by using this to reflect other traffic.
///
/// # Errors
/// When the socket can't be waited on.
pub fn serve(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<u64> {
    socket.set_read_timeout(Some(LOOK))?;
    let mut buffer = [0; LENGTH + 1];
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        // Errors are the time-out, or about an answer that found nobody.
        if let Ok((LENGTH, from)) = socket.recv_from(&mut buffer)
            && socket.send_to(&buffer[..LENGTH], from).is_ok()
        {
            answered += 1;
        }
    }
    Ok(answered)
}
