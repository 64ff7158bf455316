//! What this machine allows without a broker: loopback TCP, the same into a file, an echo of small requests
//! (two threads that wake each other, which is most of a ping-pong), and syncs of a file.
//!
//! Invariant: the file is removed. CPU is each thread's own, to the nanosecond. Deliberately absent: CRC and
//! memory copies, which are a tenth of these.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::process;
use super::report::Line;
use super::{Error, Options};

/// Bytes of one write and of one read.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes through the socket per measurement.
const TOTAL_BYTES: usize = 2_000_000_000;
/// Bytes of a small request: one record of 100 B with its framing.
const REQUEST_BYTES: usize = 220;
/// Bytes of its answer.
const ANSWER_BYTES: usize = 60;
/// How long the echo runs: long enough for the scheduler to place its threads in every way it does.
const ECHO_TIME: Duration = Duration::from_secs(2);

/// Runs all of them: `tcp` is the floor of fetch, `tcp_file` that of produce, `echo` and `echo_file` those of
/// a request and of a produce request in ping-pong.
pub(super) fn run(options: &Options) -> Result<Line, Error> {
    let tcp = transfer(None)?;
    let file = Scratch::create(&options.disk_dir)?;
    let tcp_file = transfer(Some(&file.file))?;
    let mut line = Line::new("floor");
    line.integer("chunk_bytes", CHUNK_BYTES);
    line.number("tcp_mb_per_s", tcp.mb_per_s).number("tcp_sender_cpu_s_per_gb", tcp.sender);
    line.number("tcp_receiver_cpu_s_per_gb", tcp.receiver);
    line.number("tcp_file_mb_per_s", tcp_file.mb_per_s);
    line.number("tcp_file_receiver_cpu_s_per_gb", tcp_file.receiver);
    line.number("echo_cpu_us", echo(None)?).number("echo_file_cpu_us", echo(Some(&file.file))?);
    drop(file);
    for (key, bytes) in
        [("syncs_per_s_4k", 4 << 10), ("syncs_per_s_64k", 64 << 10), ("syncs_per_s_1m", 1 << 20)]
    {
        let rate = Appender::open(&options.disk_dir)?.syncs_per_s(bytes, Duration::from_millis(500))?;
        line.number(key, rate);
    }
    Ok(line)
}

/// A file that grows by synced appends, as long as somebody wants to know how fast that is.
pub(super) struct Appender {
    scratch: Scratch,
    at: u64,
}

impl Appender {
    /// Makes the file in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { scratch: Scratch::create(dir)?, at: 0 })
    }

    /// How many times a second an append of `bytes` and its fdatasync succeed, over `time`.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub(super) fn syncs_per_s(&mut self, bytes: usize, time: Duration) -> Result<f64, Error> {
        let block = vec![b'x'; bytes];
        let (began, mut count) = (Instant::now(), 0u64);
        while began.elapsed() < time {
            let file = &self.scratch.file;
            file.write_all_at(&block, self.at).map_err(Error::io("writing to the disk directory"))?;
            file.sync_data().map_err(Error::io("syncing in the disk directory"))?;
            self.at += u64::try_from(bytes).unwrap_or(0);
            count += 1;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

struct Transfer {
    mb_per_s: f64,
    sender: f64,
    receiver: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn transfer(file: Option<&File>) -> Result<Transfer, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("listening"))?;
    let addr = listener.local_addr().map_err(Error::io("listening"))?;
    thread::scope(|scope| {
        let receiving = scope.spawn(move || receive(&listener, file));
        let began = Instant::now();
        let mut stream = TcpStream::connect(addr).map_err(Error::io("connecting"))?;
        let chunk = vec![b'x'; CHUNK_BYTES];
        let cpu = process::thread_cpu_s();
        for _ in 0..TOTAL_BYTES / CHUNK_BYTES {
            stream.write_all(&chunk).map_err(Error::io("sending"))?;
        }
        let sender = process::thread_cpu_s() - cpu;
        drop(stream);
        let receiver = receiving.join().map_err(|_| Error::Protocol("the receiver panicked".into()))??;
        let gb = TOTAL_BYTES as f64 / 1e9;
        Ok(Transfer {
            mb_per_s: gb * 1e3 / began.elapsed().as_secs_f64(),
            sender: sender / gb,
            receiver: receiver / gb,
        })
    })
}

/// CPU seconds of reading everything, and appending it to `file`.
fn receive(listener: &TcpListener, file: Option<&File>) -> Result<f64, Error> {
    let (mut stream, _) = listener.accept().map_err(Error::io("accepting"))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let cpu = process::thread_cpu_s();
    let mut at = 0;
    loop {
        let count = stream.read(&mut buffer).map_err(Error::io("receiving"))?;
        let Some(got) = buffer.get(..count).filter(|got| !got.is_empty()) else {
            return Ok(process::thread_cpu_s() - cpu);
        };
        if let Some(file) = file {
            file.write_all_at(got, at).map_err(Error::io("writing to the disk directory"))?;
            at += u64::try_from(count).unwrap_or(0);
        }
    }
}

/// CPU microseconds of one thread per request that it reads, appends to `file`, and answers, one at a time.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn echo(file: Option<&File>) -> Result<f64, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("listening"))?;
    let addr = listener.local_addr().map_err(Error::io("listening"))?;
    thread::scope(|scope| {
        let serving = scope.spawn(move || serve_echo(&listener, file));
        let mut stream = TcpStream::connect(addr).map_err(Error::io("connecting"))?;
        stream.set_nodelay(true).map_err(Error::io("connecting"))?;
        let (request, mut answer) = ([b'x'; REQUEST_BYTES], [0; ANSWER_BYTES]);
        let (began, mut count) = (Instant::now(), 0u64);
        while began.elapsed() < ECHO_TIME {
            stream.write_all(&request).map_err(Error::io("sending"))?;
            stream.read_exact(&mut answer).map_err(Error::io("receiving"))?;
            count += 1;
        }
        drop(stream);
        let cpu_s = serving.join().map_err(|_| Error::Protocol("the echo panicked".into()))??;
        Ok(cpu_s * 1e6 / count as f64)
    })
}

/// CPU seconds of answering until the other side leaves.
fn serve_echo(listener: &TcpListener, file: Option<&File>) -> Result<f64, Error> {
    let (mut stream, _) = listener.accept().map_err(Error::io("accepting"))?;
    stream.set_nodelay(true).map_err(Error::io("accepting"))?;
    let (mut request, answer) = ([0; REQUEST_BYTES], [b'x'; ANSWER_BYTES]);
    let cpu = process::thread_cpu_s();
    let mut at = 0;
    while stream.read_exact(&mut request).is_ok() {
        if let Some(file) = file {
            file.write_all_at(&request, at).map_err(Error::io("writing to the disk directory"))?;
            at += u64::try_from(REQUEST_BYTES).unwrap_or(0);
        }
        stream.write_all(&answer).map_err(Error::io("sending"))?;
    }
    Ok(process::thread_cpu_s() - cpu)
}

/// A file that is removed when dropped.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(format!("weir-bench-{}.tmp", std::process::id()));
        let file = File::options().write(true).create(true).truncate(true).open(&path);
        Ok(Self { file: file.map_err(Error::io("creating a file in the disk directory"))?, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
