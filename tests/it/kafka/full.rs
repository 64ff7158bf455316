//! A disk that is full, and has space again: what clients are told, and that nothing acknowledged goes.
//!
//! Runs on file systems of a few megabytes that it mounts; where that is not allowed it says so on stderr.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Client, House, NOBODY, Out, batch};

/// A small file system, unmounted when dropped.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn at(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn tmpfs() -> Result<Self, String> {
        let mounted = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(mounted.at()).unwrap();
        ran(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "weir-full"]).arg(mounted.at()))?;
        Ok(mounted)
    }

    fn ext4() -> Result<Self, String> {
        let mounted = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(mounted.at()).unwrap();
        let image = mounted.dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        ran(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-F"]).arg(&image))?;
        ran(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mounted.at()))?;
        Ok(mounted)
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.at().join("ballast")).unwrap();
        for bytes in [1 << 16, 1 << 10, 1] {
            let block = vec![1; bytes];
            while file.write_all(&block).is_ok() {}
        }
        // Blocks that were only promised so far are refused here.
        drop(file.sync_all());
    }

    fn empty(&self) {
        fs::remove_file(self.at().join("ballast")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(ran(Command::new("umount").arg("-l").arg(self.at())));
    }
}

fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

/// OffsetCommit v2 of partition 0 outside any generation: error code.
fn commit(client: &mut Client, topic: &str, offset: i64) -> i16 {
    let body = Out::new().string("g").i32(-1).string("").i64(-1).i32(1).string(topic);
    let mut answer = client.call(8, 2, &body.i32(1).i32(0).i64(offset).string("m"));
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    answer.i16()
}

/// OffsetFetch v1 of partition 0: offset.
fn committed(client: &mut Client, topic: &str) -> i64 {
    let mut answer = client.call(9, 1, &Out::new().string("g").i32(1).string(topic).i32(1).i32(0));
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    answer.i64()
}

/// Fetch v4 of partition 0: error code and bytes.
fn fetch(client: &mut Client, topic: &str, offset: i64) -> (i16, usize) {
    let body = Out::new().i32(-1).i32(0).i32(1).i32(1 << 20).i8(0);
    let mut answer = client.call(1, 4, &body.i32(1).string(topic).i32(1).i32(0).i64(offset).i32(1 << 20));
    answer.i32();
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    let code = answer.i16();
    answer.i64();
    answer.i64();
    answer.i32();
    (code, answer.blob().len())
}

fn keeps_what_it_acknowledged(disk: &Mounted) {
    let data = disk.at().join("data");
    let records = batch(NOBODY, 60, &[b'v'; 50]);
    let house = House::kept(&data);
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let mut next = 0;
    for _ in 0..10 {
        assert_eq!(client.produce("t", -1, &records), (0, next, -1));
        next += 60;
    }
    assert_eq!(commit(&mut client, "t", 60), 0);

    disk.fill();
    // Blocks that were reserved in time are still written to.
    let mut refused = Vec::new();
    while refused.len() < 20 {
        let asked = Instant::now();
        match client.produce("t", -1, &records) {
            (0, offset, _) => {
                assert_eq!((offset, refused.len()), (next, 0), "no gap, and nothing after the first refusal");
                next += 60;
            }
            answer => {
                assert_eq!(answer.0, 56);
                refused.push(asked.elapsed());
            }
        }
        assert!(next < 1 << 20, "the disk is not full");
    }
    refused.sort_unstable();
    assert!(refused[10] < Duration::from_millis(100), "{refused:?}");
    assert_eq!(client.produce("t", 1, &records).0, 56);
    assert_eq!(client.list_offset("t", -1), (0, next));
    assert_eq!(fetch(&mut client, "t", 0).0, 0);
    assert!(fetch(&mut client, "t", next - 60).1 > 0);
    // What is small goes on: space was kept back for it. Records do not get that.
    for offset in 61..2000 {
        assert_eq!(commit(&mut client, "t", offset), 0);
    }
    assert_eq!(committed(&mut client, "t"), 1999);
    assert_eq!(client.create_topic("while-full", &[]), 0);
    assert_eq!(client.produce("t", -1, &records).0, 56);

    disk.empty();
    // The reserve is taken back first.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match client.produce("t", -1, &records) {
            (56, ..) => assert!(Instant::now() < deadline, "space is back, and nobody saw"),
            answer => break assert_eq!(answer, (0, next, -1)),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    next += 60;
    assert_eq!(commit(&mut client, "t", 7), 0);
    assert_eq!(client.create_topic("after", &[]), 0);
    assert_eq!(client.produce("after", -1, &records).0, 0);
    house.shutdown();

    let house = House::kept(&data);
    let mut client = house.client();
    assert_eq!(client.list_offset("t", -1), (0, next));
    assert_eq!(client.list_offset("after", -1), (0, 60));
    assert_eq!(committed(&mut client, "t"), 7);
    let mut offset = 0;
    while offset < next {
        let (code, bytes) = fetch(&mut client, "t", offset);
        assert_eq!((code, bytes % records.len()), (0, 0));
        offset += 60 * i64::try_from(bytes / records.len()).unwrap();
    }
    house.shutdown();
    assert!(!Path::new(&data).join("quarantine").exists());
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_it_has_space() {
    for mounted in [Mounted::tmpfs(), Mounted::ext4()] {
        match mounted {
            Ok(disk) => keeps_what_it_acknowledged(&disk),
            // Past the test harness, which keeps what is printed to itself when a test passes.
            Err(why) => writeln!(io::stderr(), "SKIPPED: no small file system to fill up: {why}").unwrap(),
        }
    }
}
