//! A disk in memory that loses what was not synced, tears writes and fails or dies at the n-th call.
//!
//! Bytes are durable after the file's `sync`, names after `sync_dir` of their directory. At a power cut each
//! unsynced write survives whole, in part (a subset of its 512-byte sectors, zeros for the rest) or not
//! at all; of the unsynced changes to one directory a prefix survives, as on a journaling file system, or any.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use weir_broker::store::Capacity;
use weir_broker::store::local::Mapping;
use weir_broker::store::local::disk::{Directory, Disk, Entry, File, Guard};

/// A small generator of reproducible numbers (xorshift64*).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// What happens at the n-th call.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// Power is cut during this call: it and all later ones fail.
    CutAt(u64),
    /// This call fails, the others work.
    FailAt(u64, i32),
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Clone, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    reserved: u64,
}

#[derive(Clone)]
enum Name {
    Dir(PathBuf),
    File(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Dir,
    File(usize),
}

type Tree = BTreeMap<PathBuf, Kind>;

struct State {
    nodes: Vec<Node>,
    names: Tree,
    durable_names: Tree,
    pending: Vec<Name>,
    calls: u64,
    bytes_read: u64,
    /// Bytes that files may hold, blocks reserved past their ends included.
    limit: u64,
    fault: Fault,
    dead: bool,
    /// Pages of files that cannot be read, nor written in part.
    unreadable: Vec<(usize, u64)>,
    dice: Dice,
}

/// What a page cache reads at a time.
pub const PAGE_BYTES: u64 = 4096;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct Faulty(Arc<Mutex<State>>);

/// What a power cut does to names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Of the changes to a directory the first ones survive, as on a journaling file system.
    First,
    /// Any of them may, as far as one does not need another.
    Any,
}

impl Faulty {
    /// An empty disk.
    pub fn new(fault: Fault, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: Vec::new(),
            names: Tree::new(),
            durable_names: Tree::new(),
            pending: Vec::new(),
            calls: 0,
            bytes_read: 0,
            limit: u64::MAX,
            fault,
            dead: false,
            unreadable: Vec::new(),
            dice: Dice::new(seed),
        })))
    }

    /// Whether the fault has struck.
    pub fn struck(&self) -> bool {
        let state = self.state();
        match state.fault {
            Fault::None => false,
            Fault::CutAt(n) | Fault::FailAt(n, _) => state.calls >= n,
        }
    }

    /// From now on the disk is full when its files hold so many bytes.
    pub fn limit(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// Turns one bit of the stored bytes of a file.
    pub fn flip(&self, path: &Path, bit: u64) {
        let mut state = self.state();
        let Some(Kind::File(node)) = state.names.get(path).copied() else { panic!("no {}", path.display()) };
        let Node { live, durable, .. } = &mut state.nodes[node];
        for bytes in [live, durable] {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// From now on the pages of the file that these bytes are in cannot be read.
    pub fn lose(&self, path: &Path, bytes: Range<u64>) {
        let mut state = self.state();
        let Some(Kind::File(node)) = state.names.get(path).copied() else { panic!("no {}", path.display()) };
        let pages = bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES);
        state.unreadable.extend(pages.map(|page| (node, page)));
    }

    /// The cable is put right: everything is read again.
    pub fn find_again(&self) {
        self.state().unreadable.clear();
    }

    /// Every file with its size.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let file = |(path, kind): (&PathBuf, &Kind)| match kind {
            Kind::File(node) => Some((path.clone(), state.nodes[*node].live.len() as u64)),
            Kind::Dir => None,
        };
        state.names.iter().filter_map(file).collect()
    }

    /// The disk as it is found when the power is back; no more faults.
    pub fn after_power_cut(&self, order: Names) -> Self {
        let mut state = self.state();
        let mut dice = state.dice.clone();
        let nodes = state.nodes.iter().map(|node| node.survive(&mut dice)).collect();
        let mut names = state.durable_names.clone();
        let mut dropped: Vec<PathBuf> = Vec::new();
        for change in &state.pending {
            let dir = change.dir();
            let lost = (order == Names::First && dropped.contains(&dir)) || dice.below(2) == 0;
            if lost || !change.applies(&names) {
                dropped.push(dir);
            } else {
                change.apply(&mut names);
            }
        }
        prune(&mut names);
        state.dead = true;
        Self(Arc::new(Mutex::new(State {
            nodes,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            calls: 0,
            bytes_read: 0,
            limit: u64::MAX,
            fault: Fault::None,
            dead: false,
            unreadable: state.unreadable.clone(),
            dice,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Node {
    fn survive(&self, dice: &mut Dice) -> Self {
        let (mut bytes, mut live) = (self.durable.clone(), self.durable.clone());
        for change in &self.pending {
            match change {
                Change::Cut(len) => {
                    live.resize(*len as usize, 0);
                    if dice.below(2) == 0 {
                        bytes.resize(*len as usize, 0);
                    }
                }
                Change::Write(at, data) => {
                    put(&mut live, *at, data);
                    let how = dice.below(3);
                    let end = *at as usize + data.len();
                    // A sector goes to disk with all that had been written to it by then.
                    for sector in (*at as usize / 512)..end.div_ceil(512) {
                        if how == 0 || (how == 1 && dice.below(2) == 0) {
                            let until = (sector * 512 + 512).min(live.len());
                            put(&mut bytes, sector as u64 * 512, &live[sector * 512..until]);
                        }
                    }
                }
            }
        }
        Self { live: bytes.clone(), durable: bytes, pending: Vec::new(), reserved: 0 }
    }

    fn change(&mut self, change: Change) {
        match &change {
            Change::Write(at, data) => put(&mut self.live, *at, data),
            Change::Cut(len) => self.live.resize(*len as usize, 0),
        }
        self.pending.push(change);
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl Name {
    fn dir(&self) -> PathBuf {
        match self {
            Self::Dir(path) | Self::File(path, _) | Self::Rename(_, path) | Self::Remove(path) => {
                path.parent().unwrap().to_owned()
            }
        }
    }

    /// Whether what it changes is there.
    fn applies(&self, names: &Tree) -> bool {
        match self {
            Self::Rename(from, _) | Self::Remove(from) => names.contains_key(from),
            Self::Dir(_) | Self::File(..) => true,
        }
    }

    fn apply(&self, names: &mut Tree) {
        match self {
            Self::Dir(path) => drop(names.insert(path.clone(), Kind::Dir)),
            Self::File(path, node) => drop(names.insert(path.clone(), Kind::File(*node))),
            Self::Rename(from, to) => {
                let moved: Vec<_> = names.keys().filter(|k| k.starts_with(from)).cloned().collect();
                for old in moved {
                    let kind = names.remove(&old).unwrap();
                    let rest = old.strip_prefix(from).unwrap();
                    let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                    names.insert(new, kind);
                }
            }
            Self::Remove(path) => names.retain(|k, _| !k.starts_with(path)),
        }
    }
}

/// Forgets what hangs on a directory whose own name was lost.
fn prune(names: &mut Tree) {
    let whole = names.clone();
    let reached =
        |path: &Path| path.ancestors().skip(1).all(|d| d == Path::new("/") || whole.contains_key(d));
    names.retain(|path, _| reached(path));
}

impl State {
    fn used(&self) -> u64 {
        let held = |kind: &Kind| match kind {
            Kind::File(node) => (self.nodes[*node].live.len() as u64).max(self.nodes[*node].reserved),
            Kind::Dir => 0,
        };
        self.names.values().map(held).sum()
    }

    /// Whether a file may hold `bytes`.
    fn has_room(&self, node: usize, bytes: u64) -> io::Result<()> {
        let held = (self.nodes[node].live.len() as u64).max(self.nodes[node].reserved);
        let fits = bytes <= held || self.used() + (bytes - held) <= self.limit;
        if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
    }

    /// Counts a call; answers whether the power goes in the middle of it.
    fn call(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.calls += 1;
        match self.fault {
            Fault::CutAt(n) if self.calls == n => {
                self.dead = true;
                Ok(true)
            }
            Fault::FailAt(n, errno) if self.calls == n => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(false),
        }
    }

    fn rename(&mut self, change: Name) -> io::Result<()> {
        let cut = self.call()?;
        change.apply(&mut self.names);
        self.pending.push(change);
        done(cut)
    }
}

impl State {
    /// Fails where one of these pages of the file is lost.
    fn give(&self, node: usize, mut pages: Range<u64>) -> io::Result<()> {
        let lost = pages.any(|page| self.unreadable.contains(&(node, page)));
        if lost { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

fn done(cut: bool) -> io::Result<()> {
    if cut { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Faulty {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let cut = state.call()?;
        let mut path = PathBuf::from("/");
        for part in dir.components().skip(1) {
            path.push(part);
            if !state.names.contains_key(&path) {
                let change = Name::Dir(path.clone());
                change.apply(&mut state.names);
                state.pending.push(change);
            }
        }
        done(cut)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let cut = state.call()?;
        let node = match state.names.get(path) {
            Some(Kind::File(node)) => {
                let node = *node;
                state.nodes[node].change(Change::Cut(0));
                node
            }
            _ if state.names.get(path.parent().unwrap()) != Some(&Kind::Dir) => return Err(missing()),
            _ => {
                state.nodes.push(Node::default());
                let node = state.nodes.len() - 1;
                let change = Name::File(path.to_owned(), node);
                change.apply(&mut state.names);
                state.pending.push(change);
                node
            }
        };
        done(cut)?;
        Ok(Arc::new(Open { disk: self.clone(), node }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.state().names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        done(state.call()?)?;
        match state.names.get(path) {
            Some(Kind::File(node)) => Ok(Arc::new(Open { disk: self.clone(), node: *node })),
            _ => Err(missing()),
        }
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        done(self.state().call()?)?;
        Ok(Box::new(OpenDir { disk: self.clone(), dir: dir.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(missing());
        }
        state.rename(Name::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state().rename(Name::Remove(path.to_owned()))
    }

    fn remove_dirs(&self, dir: &Path) -> io::Result<()> {
        self.state().rename(Name::Remove(dir.to_owned()))
    }

    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()> {
        if self.state().names.keys().any(|path| path.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.state().rename(Name::Remove(dir.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        done(state.call()?)?;
        let entry = |(path, kind): (&PathBuf, &Kind)| Entry {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            is_dir: *kind == Kind::Dir,
            is_file: *kind != Kind::Dir,
            bytes: if let Kind::File(node) = kind { state.nodes[*node].live.len() as u64 } else { 0 },
        };
        Ok(state.names.iter().filter(|(path, _)| path.parent() == Some(dir)).map(entry).collect())
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut state = self.state();
        done(state.call()?)?;
        Ok(match state.names.get(path) {
            Some(Kind::File(node)) => Some(state.nodes[*node].live.len() as u64),
            _ => None,
        })
    }

    fn lock(&self, _path: &Path, _owner: &str) -> io::Result<Result<Guard, String>> {
        Ok(Ok(Box::new(())))
    }

    fn space(&self, _path: &Path) -> io::Result<Capacity> {
        let state = self.state();
        if state.limit == u64::MAX {
            return Ok(Capacity { total_bytes: 1 << 40, free_bytes: 1 << 39 });
        }
        Ok(Capacity { total_bytes: state.limit, free_bytes: state.limit.saturating_sub(state.used()) })
    }
}

struct OpenDir {
    disk: Faulty,
    dir: PathBuf,
}

impl Directory for OpenDir {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        done(state.call()?)?;
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            if change.dir() == self.dir {
                change.apply(&mut state.durable_names);
            } else {
                state.pending.push(change);
            }
        }
        Ok(())
    }
}

struct Open {
    disk: Faulty,
    node: usize,
}

impl File for Open {
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let mut data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let end = at + data.len() as u64;
        state.has_room(self.node, end)?;
        // What is written in part is read first.
        let (first, last) = (at / PAGE_BYTES, end / PAGE_BYTES);
        let more = end < state.nodes[self.node].live.len() as u64;
        for (page, in_part) in
            [(first, !at.is_multiple_of(PAGE_BYTES)), (last, more && !end.is_multiple_of(PAGE_BYTES))]
        {
            if in_part {
                state.give(self.node, page..page + 1)?;
            }
        }
        // Now and then a short write, which is legal.
        if !matches!(state.fault, Fault::None) && state.dice.below(16) == 0 && data.len() > 1 {
            let keep = 1 + state.dice.below(data.len() as u64 - 1) as usize;
            data.truncate(keep);
        }
        let cut = state.call();
        if !matches!(cut, Ok(false)) {
            let keep = state.dice.below(data.len() as u64 + 1) as usize;
            data.truncate(keep);
        }
        if !(state.dead && cut.is_err()) {
            state.nodes[self.node].change(Change::Write(at, data.clone()));
        }
        done(cut?)?;
        Ok(data.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        done(state.call()?)?;
        let live = &state.nodes[self.node].live;
        let end = (at + buf.len() as u64).min(live.len() as u64);
        state.give(self.node, at / PAGE_BYTES..end.div_ceil(PAGE_BYTES))?;
        let rest = live.get(at as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        state.bytes_read += len as u64;
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.call();
        let node = &mut state.nodes[self.node];
        if let Ok(false) = outcome {
            node.durable = node.live.clone();
            node.pending.clear();
        }
        done(outcome?)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().nodes[self.node].live.len() as u64)
    }

    fn held_bytes(&self) -> io::Result<u64> {
        let node = &self.disk.state().nodes[self.node];
        Ok((node.live.len() as u64).max(node.reserved))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        // The rest of the page that it ends in is made zeros, also of one that ends there already: it is read first.
        if !bytes.is_multiple_of(PAGE_BYTES) {
            state.give(self.node, bytes / PAGE_BYTES..bytes / PAGE_BYTES + 1)?;
        }
        let cut = state.call()?;
        state.nodes[self.node].change(Change::Cut(bytes));
        state.nodes[self.node].reserved = 0;
        done(cut)
    }

    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        done(state.call()?)?;
        state.has_room(self.node, at + bytes)?;
        let node = &mut state.nodes[self.node];
        node.reserved = node.reserved.max(at + bytes);
        Ok(())
    }

    fn start_writeback(&self, _at: u64, _bytes: u64) {}

    fn map(&self, _bytes: usize) -> Option<Mapping> {
        None
    }
}
