//! The plain records of a compressed section, a piece at a time.
//!
//! Owns: one reader per codec and framing, and what a thread keeps between batches so that none of them
//! allocates per batch.
//! Invariant: what is really produced is counted against the cap, whatever the stream declares; bytes that are read and
//! produce nothing cost budget, too, and no step reads many of them before that is looked at; pieces are of
//! bounded size, except that a raw snappy block is one piece, because its copies may reach back to its start.
//! That piece is at most 22 times the bytes that hold it.
//! Deliberately absent: records (`walk.rs`), what can be told without decompressing (`frame.rs`).

use std::cell::Cell;
use std::hash::Hasher;

use flate2::{Decompress, FlushDecompress, Status};
use twox_hash::XxHash32;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::check::Invalid;
use super::codec::{Codec, DAMAGED, TOO_LARGE, XERIAL_HEADER_BYTES, XERIAL_MAGIC, ZSTD_WINDOW_LOG};
use super::frame::{self, Lz4Frame};

/// Most that a piece of gzip or zstd is.
pub(super) const PIECE_BYTES: usize = 128 << 10;

/// Most that one step reads of a stream that could be read on without end: members, frames, blocks that hold nothing.
const STEP_BYTES: usize = 64 << 10;

/// What a byte costs that produces none. Measured: a stream of empty blocks of deflate, each with its own code tables, takes
/// 81 ns per byte of it, text 3.3 ns per plain byte; all others that hold nothing take less.
const IDLE_COST: usize = 32;

/// What a thread keeps of its window, and of zstd's.
const KEPT_WINDOW_BYTES: usize = 1 << 20;
const KEPT_ZSTD_BYTES: usize = 4 << 20;

/// Snappy's densest element: a 3-byte copy of 64 bytes.
const SNAPPY_MAX_RATIO: usize = 22;

/// Why reading ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// A rule is broken.
    Invalid(Invalid),
    /// The budget is used up.
    Spent,
}

impl From<Invalid> for Halt {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Decoders and space that outlive a batch.
#[derive(Default)]
pub(super) struct Kept {
    /// Where pieces are put.
    pub window: Vec<u8>,
    inflate: Option<Decompress>,
    zstd: Option<DCtx<'static>>,
}

thread_local! {
    static KEPT: Cell<Option<Box<Kept>>> = const { Cell::new(None) };
}

/// Runs `work` with what this thread keeps.
pub(super) fn with_kept<T>(work: impl FnOnce(&mut Kept) -> T) -> T {
    // Taken out meanwhile: whoever comes in between gets a fresh one.
    let mut kept = KEPT.take().unwrap_or_default();
    let answer = work(&mut kept);
    if kept.window.len() > KEPT_WINDOW_BYTES {
        kept.window = Vec::new();
    }
    if kept.zstd.as_ref().is_some_and(|zstd| zstd.sizeof() > KEPT_ZSTD_BYTES) {
        kept.zstd = None;
    }
    KEPT.set(Some(kept));
    answer
}

/// A compressed section that is being read.
pub(super) struct Plain<'a> {
    stream: Stream<'a>,
    produced: usize,
    max_bytes: usize,
}

enum Stream<'a> {
    Gzip(Members<'a>),
    Snappy { rest: &'a [u8], framed: bool },
    Lz4(Blocks<'a>),
    Zstd { rest: &'a [u8], open: bool },
}

/// gzip members, one after another.
struct Members<'a> {
    rest: &'a [u8],
    /// Checksum and plain bytes of the member that is open.
    open: Option<(crc32fast::Hasher, u32)>,
}

/// The blocks of an LZ4 frame.
struct Blocks<'a> {
    rest: &'a [u8],
    frame: Lz4Frame,
    sum: XxHash32,
    produced: usize,
    ended: bool,
}

impl<'a> Plain<'a> {
    /// Reads `records`, at most `max_bytes` of them.
    ///
    /// # Errors
    /// [`Invalid::Record`] when they do not begin as such a stream.
    pub fn new(codec: Codec, records: &'a [u8], max_bytes: usize, kept: &mut Kept) -> Result<Self, Invalid> {
        let stream = match codec {
            // Nobody decompresses what is plain, and no stream is empty.
            Codec::None => return Err(DAMAGED),
            _ if records.is_empty() => return Err(DAMAGED),
            Codec::Gzip => Stream::Gzip(Members { rest: records, open: None }),
            Codec::Snappy if records.starts_with(XERIAL_MAGIC) => Stream::Snappy {
                // The two versions there are read by no decoder.
                rest: records.get(XERIAL_HEADER_BYTES..).ok_or(DAMAGED)?,
                framed: true,
            },
            Codec::Snappy => Stream::Snappy { rest: records, framed: false },
            Codec::Lz4 => {
                let mut rest = records;
                let frame = frame::lz4_head(&mut rest).ok_or(DAMAGED)?;
                Stream::Lz4(Blocks { rest, frame, sum: XxHash32::with_seed(0), produced: 0, ended: false })
            }
            Codec::Zstd => {
                let zstd = kept.zstd.get_or_insert_default();
                zstd.reset(ResetDirective::SessionAndParameters).map_err(|_| DAMAGED)?;
                zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|_| DAMAGED)?;
                Stream::Zstd { rest: records, open: true }
            }
        };
        Ok(Self { stream, produced: 0, max_bytes })
    }

    /// Plain bytes so far.
    pub fn produced(&self) -> usize {
        self.produced
    }

    /// How large the next piece may be, without producing it.
    pub fn next_bytes(&self) -> usize {
        match &self.stream {
            Stream::Snappy { rest, framed } => {
                let block = if *framed { rest.get(4..).unwrap_or_default() } else { rest };
                snap::raw::decompress_len(block).unwrap_or(0)
            }
            Stream::Lz4(blocks) => blocks.frame.most_plain_bytes(blocks.rest.len().saturating_sub(8)),
            Stream::Gzip(members) if members.open.is_none() && members.rest.is_empty() => 0,
            Stream::Zstd { rest: [], open: false } => 0,
            Stream::Gzip(_) | Stream::Zstd { .. } => PIECE_BYTES,
        }
    }

    /// Puts the next piece into `window` from `at` on, which grows for it, and says how many bytes it has; 0 at
    /// the end of a whole stream. Takes from `budget` what it produced, and what it read for nothing.
    ///
    /// # Errors
    /// [`Invalid::Record`] when the stream is damaged, cut short, followed by something, or larger than the cap;
    /// [`Halt::Spent`] before more is done than the budget has.
    pub fn more(&mut self, kept: &mut Kept, at: usize, budget: &mut usize) -> Result<usize, Halt> {
        loop {
            // What produces nothing wants some of it, too.
            if self.next_bytes().max(usize::from(!self.has_ended())) > *budget {
                return Err(Halt::Spent);
            }
            let before = self.rest().len();
            let got = self.step(kept, at)?;
            let idle = (before - self.rest().len()).saturating_sub(got);
            *budget = budget.saturating_sub(got.saturating_add(idle.saturating_mul(IDLE_COST)));
            if got > 0 || self.has_ended() {
                return Ok(got);
            }
        }
    }

    fn rest(&self) -> &[u8] {
        match &self.stream {
            Stream::Gzip(members) => members.rest,
            Stream::Lz4(blocks) => blocks.rest,
            Stream::Snappy { rest, .. } | Stream::Zstd { rest, .. } => rest,
        }
    }

    fn has_ended(&self) -> bool {
        match &self.stream {
            Stream::Gzip(members) => members.open.is_none() && members.rest.is_empty(),
            Stream::Lz4(blocks) => blocks.ended,
            Stream::Snappy { rest, .. } => rest.is_empty(),
            Stream::Zstd { rest, open } => !*open && rest.is_empty(),
        }
    }

    /// Does a little; 0 also where what it read holds nothing.
    fn step(&mut self, kept: &mut Kept, at: usize) -> Result<usize, Invalid> {
        let left = self.max_bytes - self.produced;
        let got = match &mut self.stream {
            Stream::Gzip(members) => {
                let inflate = kept.inflate.get_or_insert_with(|| Decompress::new(false));
                members.more(inflate, stretch(&mut kept.window, at, left))?
            }
            Stream::Zstd { rest, open } => {
                let zstd = kept.zstd.get_or_insert_default();
                zstd_more(zstd, rest, open, stretch(&mut kept.window, at, left))?
            }
            Stream::Snappy { rest, framed } => {
                if rest.is_empty() {
                    return Ok(0);
                }
                let block = if *framed { xerial_block(rest)? } else { std::mem::take(rest) };
                snappy_block(block, &mut kept.window, at, left)?
            }
            Stream::Lz4(blocks) => blocks.more(&mut kept.window, at, left)?,
        };
        if got > left {
            return Err(TOO_LARGE);
        }
        self.produced += got;
        Ok(got)
    }
}

/// Space for a piece: one byte more than the cap leaves tells that there is more.
fn stretch(window: &mut Vec<u8>, at: usize, left: usize) -> &mut [u8] {
    space(window, at, PIECE_BYTES.min(left.saturating_add(1)))
}

/// The `bytes` from `at` on.
fn space(window: &mut Vec<u8>, at: usize, bytes: usize) -> &mut [u8] {
    let end = at.saturating_add(bytes);
    if window.len() < end {
        window.resize(end, 0);
    }
    window.get_mut(at..end).unwrap_or_default()
}

impl Members<'_> {
    fn more(&mut self, inflate: &mut Decompress, out: &mut [u8]) -> Result<usize, Invalid> {
        let (mut filled, until) = (0, self.rest.len().saturating_sub(STEP_BYTES));
        while filled < out.len() {
            let (sum, bytes) = match &mut self.open {
                Some(open) => open,
                None if self.rest.is_empty() => break,
                closed => {
                    frame::gzip_head(&mut self.rest).ok_or(DAMAGED)?;
                    inflate.reset(false);
                    closed.insert((crc32fast::Hasher::new(), 0))
                }
            };
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let space = out.get_mut(filled..).unwrap_or_default();
            let input = self.rest.get(..STEP_BYTES).unwrap_or(self.rest);
            let status = inflate.decompress(input, space, FlushDecompress::None).map_err(|_| DAMAGED)?;
            let taken = usize::try_from(inflate.total_in() - before_in).map_err(|_| DAMAGED)?;
            let given = usize::try_from(inflate.total_out() - before_out).map_err(|_| DAMAGED)?;
            self.rest = self.rest.get(taken..).ok_or(DAMAGED)?;
            sum.update(space.get(..given).ok_or(DAMAGED)?);
            // The trailer counts modulo 2^32.
            *bytes = bytes.wrapping_add(u32::try_from(given).map_err(|_| DAMAGED)?);
            filled += given;
            if status == Status::StreamEnd {
                let (trailer, rest) = self.rest.split_first_chunk::<8>().ok_or(DAMAGED)?;
                let expected = u64::from(*bytes) << 32 | u64::from(sum.clone().finalize());
                if u64::from_le_bytes(*trailer) != expected {
                    return Err(DAMAGED);
                }
                self.rest = rest;
                self.open = None;
            } else if taken == 0 && given == 0 {
                return Err(DAMAGED);
            }
            if self.rest.len() < until {
                break;
            }
        }
        Ok(filled)
    }
}

/// Frames and skippable frames up to the end. The library refuses frames that name a dictionary, have larger
/// windows than allowed, or are not what their header and checksum say.
fn zstd_more(
    zstd: &mut DCtx<'_>,
    rest: &mut &[u8],
    open: &mut bool,
    out: &mut [u8],
) -> Result<usize, Invalid> {
    let (mut output, until) = (OutBuffer::around(out), rest.len().saturating_sub(STEP_BYTES));
    // A full window says nothing about what the library still holds.
    while output.pos() < output.capacity() && (*open || !rest.is_empty()) {
        let mut input = InBuffer::around(rest.get(..STEP_BYTES).unwrap_or(rest));
        let before = output.pos();
        let hint = zstd.decompress_stream(&mut output, &mut input).map_err(|_| DAMAGED)?;
        let stuck = input.pos() == 0 && output.pos() == before;
        *rest = rest.get(input.pos()..).ok_or(DAMAGED)?;
        *open = hint != 0;
        if stuck && (*open || !rest.is_empty()) {
            return Err(DAMAGED);
        }
        if rest.len() < until {
            break;
        }
    }
    Ok(output.pos())
}

/// Takes one of xerial's chunks. One of no bytes is an error of the decoder.
fn xerial_block<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Invalid> {
    let (length, tail) = rest.split_first_chunk().ok_or(DAMAGED)?;
    let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| DAMAGED)?;
    let (block, tail) = tail.split_at_checked(length).ok_or(DAMAGED)?;
    *rest = tail;
    Ok(block)
}

/// Decodes one raw block. Its length prefix is believed only as far as the cap and as far as so few bytes can
/// reach, before room is made for it.
fn snappy_block(block: &[u8], window: &mut Vec<u8>, at: usize, left: usize) -> Result<usize, Invalid> {
    let length = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(DAMAGED);
    }
    if length > left {
        return Err(TOO_LARGE);
    }
    snap::raw::Decoder::new().decompress(block, space(window, at, length)).map_err(|_| DAMAGED)
}

impl Blocks<'_> {
    /// The next block, or the end.
    fn more(&mut self, window: &mut Vec<u8>, at: usize, left: usize) -> Result<usize, Invalid> {
        if self.ended {
            return Ok(0);
        }
        if let Some((stored, block)) = self.frame.block(&mut self.rest).ok_or(DAMAGED)? {
            let most = if stored { block.len() } else { self.frame.most_plain_bytes(block.len()) };
            let out = space(window, at, most.min(left.saturating_add(1)));
            let got = if stored {
                let fits = out.get_mut(..block.len()).ok_or(TOO_LARGE)?;
                fits.copy_from_slice(block);
                block.len()
            } else {
                let cut = out.len() < most;
                lz4_flex::block::decompress_into(block, out)
                    .map_err(|_| if cut { TOO_LARGE } else { DAMAGED })?
            };
            if self.frame.content_sum {
                self.sum.write(out.get(..got).unwrap_or_default());
            }
            self.produced += got;
            return Ok(got);
        }
        self.ended = true;
        let fits = self.frame.end(&mut self.rest, self.produced, self.sum.finish_32());
        if fits { Ok(0) } else { Err(DAMAGED) }
    }
}
