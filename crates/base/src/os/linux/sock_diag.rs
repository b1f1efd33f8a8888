//! Requests to the kernel about sockets: sock_diag(7), netlink(7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, recv, send};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_DUMP: u16 = 0x300;
pub const ALL_STATES: u32 = u32::MAX;
pub const SHOW_NAME: u32 = 1;
pub const SHOW_VFS: u32 = 2;
pub const SHOW_PEER: u32 = 4;
pub const SHOW_ICONS: u32 = 8;
pub const SHOW_RQLEN: u32 = 16;
pub const ATTR_NAME: u16 = 0;
pub const ATTR_VFS: u16 = 1;
pub const ATTR_PEER: u16 = 2;
/// The inodes of the clients in a listener's queue.
pub const ATTR_ICONS: u16 = 3;
/// Of a listener: the length of its queue, and the longest that it may be.
pub const ATTR_RQLEN: u16 = 4;
/// The size of nlmsghdr.
pub const HEADER_SIZE: usize = 16;
/// The sizes of nlmsghdr and unix_diag_msg, and of nlmsghdr and inet_diag_msg.
const UNIX_ANSWER_SIZE: usize = HEADER_SIZE + 16;
const TCP_ANSWER_SIZE: usize = HEADER_SIZE + 72;
/// The kernel gives up an answer about one socket at the size of a page (`unix_diag_get_exact`).
const ANSWER_MAX: usize = 8 * 1024;
/// Offsets in an answer about a Unix socket: the socket's type, its state and its inode.
pub const SOCKET_TYPE: usize = 17;
pub const SOCKET_STATE: usize = 18;
pub const SOCKET_INODE: usize = 20;
/// The state of both ends of a connection (net/tcp_states.h).
pub const ESTABLISHED: u8 = 1;
/// The state of a socket after listen(2).
pub const LISTEN: u8 = 10;

/// A socket for requests. A caller that asks often keeps it.
pub struct SockDiag(OwnedFd);

impl SockDiag {
    /// # Errors
    /// A seccomp filter refuses AF_NETLINK; EMFILE, ENFILE.
    pub fn open() -> io::Result<Self> {
        // SAFETY: integers only.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just opened this descriptor, and no other value owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Asks about Unix sockets: `struct unix_diag_req` of linux/unix_diag.h. Calls `on_answer` with the header and the attributes
    /// of each answer. After an error the rest of an answer may follow, so the socket must not be used again.
    pub fn query_unix(&self, inode: u32, flags: u16, states: u32, show: u32, on_answer: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut body = [0; 24];
        body[0] = libc::AF_UNIX as u8;
        for (field, value) in body[4..].chunks_exact_mut(4).zip([states, inode, show, u32::MAX, u32::MAX]) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
        self.query(&body, flags, UNIX_ANSWER_SIZE, on_answer)
    }

    /// Asks for the TCP sockets of a family that listen: `struct inet_diag_req_v2` of linux/inet_diag.h. Calls `on_answer` as
    /// [`Self::query_unix`] does.
    pub fn query_tcp_listeners(&self, family: libc::c_int, on_answer: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut body = [0; 56];
        body[0] = family as u8;
        body[1] = libc::IPPROTO_TCP as u8;
        body[4..8].copy_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
        self.query(&body, NLM_F_DUMP, TCP_ANSWER_SIZE, on_answer)
    }

    /// `answer_size`: the size of an answer in front of its attributes.
    fn query(&self, body: &[u8], flags: u16, answer_size: usize, mut on_answer: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let size = HEADER_SIZE + body.len();
        let mut request = Vec::with_capacity(size);
        request.extend((size as u32).to_ne_bytes());
        request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty())?;
        let dump = flags & NLM_F_DUMP != 0;
        let mut buffer = vec![0; if dump { 32 * 1024 } else { ANSWER_MAX }];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let (Some(size), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
                let size = size as usize;
                let Some(message) = rest.get(..size).filter(|message| message.len() >= HEADER_SIZE) else {
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
                };
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        #[expect(clippy::cast_possible_wrap, reason = "the message contains a negative errno as its bits")]
                        let errno = -(u32_at(message, HEADER_SIZE).unwrap_or_default() as i32);
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    _ => on_answer(message.get(..answer_size).unwrap_or(message), message.get(answer_size..).unwrap_or_default()),
                }
                if !dump {
                    return Ok(());
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// [`SockDiag::query_unix`] over a socket of its own.
pub fn query(inode: u32, flags: u16, states: u32, show: u32, on_answer: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    SockDiag::open()?.query_unix(inode, flags, states, show, on_answer)
}

/// The value of the first attribute of this kind (netlink(7)).
pub fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let size = u16_at(rest, 0)? as usize;
        let kind = u16_at(rest, 2)?;
        if kind == wanted {
            return rest.get(4..size);
        }
        rest = rest.get(size.max(4).next_multiple_of(4)..)?;
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}
