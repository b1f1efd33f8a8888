//! Datagram sockets: senders, descriptors, the folder of their files.

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use ally_base::notify_folder::{bind_socket, sweep};
use ally_base::os::{self, Datagram, Sender, datagram_socket, is_datagram_socket_alive, receive_datagram, user_of};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

fn send(to: &Path, text: &[u8], descriptors: &[i32]) {
    let sender = UnixDatagram::unbound().unwrap();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights };
    let address = UnixAddr::new(to).unwrap();
    sendmsg(sender.as_raw_fd(), &[IoSlice::new(text)], rights, MsgFlags::empty(), Some(&address)).unwrap();
}

fn bound() -> (OwnedFd, std::path::PathBuf) {
    let socket = datagram_socket().unwrap();
    let path = bind_socket(&socket).unwrap();
    (socket, path)
}

#[test]
fn datagram_names_its_sender_and_its_descriptors_are_closed() {
    let (socket, path) = bound();
    let mut bytes = [0; 16];
    assert_eq!(receive_datagram(&socket, &mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let (mut read, write) = io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    // As many as one message carries.
    let mut descriptors = vec![null.as_raw_fd(); 252];
    descriptors.push(write.as_raw_fd());
    send(&path, b"hello", &descriptors);
    drop(write);
    let sender = Some(Sender { pid: os::own_pid(), user: user_of(os::own_pid()).unwrap().unwrap() });
    assert_eq!(receive_datagram(&socket, &mut bytes).unwrap(), Datagram { length: 5, is_truncated: false, sender });
    assert_eq!(&bytes[..5], b"hello");
    assert_eq!(read.read(&mut [0]).unwrap(), 0, "the last copy of the write end is closed");

    send(&path, &[b'x'; 17], &[]);
    assert!(receive_datagram(&socket, &mut bytes).unwrap().is_truncated);
    send(&path, b"", &[]);
    assert_eq!(receive_datagram(&socket, &mut bytes).unwrap().length, 0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn sweep_removes_the_sockets_that_no_process_holds() {
    let (held, held_path) = bound();
    let (dead, dead_path) = bound();
    for path in [&held_path, &dead_path] {
        let (file, folder) = (path.symlink_metadata().unwrap(), path.parent().unwrap().symlink_metadata().unwrap());
        assert_eq!((file.mode() & 0o777, folder.mode() & 0o777), (0o600, 0o700));
        assert!(path.as_os_str().len() < 60 && !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    }
    // The folder is the user's: another run of this test may be at it, and any guardian sweeps it.
    let own = |name: &str| dead_path.with_file_name(format!("{name}-{}", os::own_pid()));
    let making = own(".making");
    let being_made = UnixDatagram::bind(&making).unwrap();
    let file = own("no-socket");
    std::fs::write(&file, "").unwrap();
    drop((dead, being_made));
    assert!(!is_datagram_socket_alive(&dead_path).unwrap_or_default());
    sweep();
    assert_eq!([&held_path, &dead_path, &making, &file].map(|path| path.exists()), [true, false, true, true]);
    for path in [held_path, making, file] {
        std::fs::remove_file(path).unwrap();
    }
    drop(held);
}
