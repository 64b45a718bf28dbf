use super::*;

#[test]
fn every_block_size_and_compression_gives_the_same_bytes() {
    let place = Place::new();
    let mut text = lines(20, 1);
    text.extend_from_slice(b"\n\n\r\nwith crlf\r\nx\n");
    for how in ALL {
        let path = place.put("a.log", &pack(how, &text));
        for size in 1..=64 {
            let all = read_all(&path, small(size, 1000));
            assert_eq!(all.bytes, text, "{how} at {size}");
            assert!(all.error.is_none() && all.unterminated.is_empty());
            let last = all.last();
            assert_eq!((last.length, last.lines, last.complete), (text.len() as u64, 25, true));
        }
    }
}

#[test]
fn blocks_are_whole_lines_at_their_offset() {
    let place = Place::new();
    let text = lines(3000, 2);
    let path = place.put("a.log", &text);
    let mut blocks = Blocks::new(opened(&path), small(5000, 1000)).unwrap();
    let mut count = 0;
    while let Some(block) = blocks.next().unwrap() {
        let at = block.offset as usize;
        assert_eq!(&text[at..at + block.bytes.len()], &block.bytes[..]);
        assert!(block.bytes.len() <= 5000 && block.bytes.ends_with(b"\n"));
        assert_eq!(blocks.consumed(), block.offset + block.bytes.len() as u64);
        count += 1;
        blocks.give_back(block.bytes);
    }
    assert!(count > 10);
    assert_eq!(blocks.disk_position(), text.len() as u64);
}

#[test]
fn empty_one_byte_and_without_newline() {
    let place = Place::new();
    for how in ALL {
        for text in [&b""[..], b"x", b"no newline", b"\n", b"a\nb"] {
            let path = place.put("a.log", &pack(how, text));
            let all = read_all(&path, small(4, 100));
            let whole = memchr::memrchr(b'\n', text).map_or(0, |n| n + 1);
            let plain = how == Compression::Plain;
            let (want, tail) = if plain { text.split_at(whole) } else { (text, &b""[..]) };
            assert_eq!((&all.bytes[..], &all.unterminated[..]), (want, tail), "{how} {text:?}");
            assert_eq!(all.last().length, want.len() as u64);
            assert!(all.last().complete && all.error.is_none());
        }
    }
}

#[test]
fn long_lines_are_cut_counted_and_left_behind() {
    let place = Place::new();
    let long = [b'L'; 500];
    let exact = [b'E'; 100];
    let text = [b"a\n", &long[..], b"\nb\nc\n", &exact, b"\n", &long, b"\n", &long, b"\nd\n"].concat();
    let cut = [b"a\n", &long[..100], b"\nb\nc\n", &exact, b"\n", &long[..100], b"\n", &long[..100], b"\nd\n"].concat();
    for how in ALL {
        let path = place.put("a.log", &pack(how, &text));
        for size in (1..70).chain([99, 100, 101, 102, 499, 500, 501, 502, 4096]) {
            let all = read_all(&path, small(size, 100));
            assert_eq!(all.bytes, cut, "{how} {size}");
            assert_eq!(all.oversized, 3);
            assert_eq!(all.last().lines, 8);
            let whole = read_all(&path, small(4096, 1000)).last();
            assert_eq!((all.last().length, all.last().hash), (whole.length, whole.hash));
        }
    }
}

#[test]
fn offsets_hold_around_cut_lines() {
    let place = Place::new();
    let text = [b"one\n", &[b'L'; 300][..], b"\ntwo\nthree\n"].concat();
    let path = place.put("a.log", &text);
    let mut blocks = Blocks::new(opened(&path), small(4096, 10)).unwrap();
    let mut seen = Vec::new();
    while let Some(b) = blocks.next().unwrap() {
        seen.push((b.offset, b.bytes.len()));
    }
    assert_eq!(seen, [(0, 4), (4, 11), (305, 10)]);
}

#[test]
fn a_long_last_line_without_newline() {
    let place = Place::new();
    let text = [b"a\n", &[b'L'; 500][..]].concat();
    for size in [1, 7, 100, 4096] {
        let all = read_all(&place.put("a.log", &text), small(size, 100));
        assert_eq!((&all.bytes[..], all.unterminated.len(), all.oversized), (&b"a\n"[..], 100, 1));
        assert_eq!((all.last().length, all.last().lines), (2, 1));
        assert_eq!(all.last().hash, read_all(&place.put("b.log", b"a\n"), small(9, 9)).last().hash);
        let all = read_all(&place.put("a.gz", &pack(Compression::Gzip, &text)), small(size, 100));
        assert_eq!((all.bytes.len(), all.unterminated.len(), all.oversized), (102, 0, 1));
        assert_eq!((all.last().length, all.last().lines), (502, 2));
    }
}

#[test]
fn memory_stays_bounded_in_a_file_of_one_line() {
    let place = Place::new();
    let path = place.put("a.log", &vec![b'x'; 3 << 20]);
    let mut blocks = Blocks::new(opened(&path), small(1000, 1000)).unwrap();
    let block = blocks.next().unwrap().unwrap();
    assert!(block.unterminated && block.bytes.len() == 1000);
    assert!(blocks.next().unwrap().is_none());
}

#[test]
fn starts_at_an_offset() {
    let place = Place::new();
    let text = lines(2000, 3);
    let at = memchr::memchr_iter(b'\n', &text).nth(999).unwrap() + 1;
    for how in ALL {
        let path = place.put("a.log", &pack(how, &text));
        let mut blocks = Blocks::new(opened(&path), small(3000, 1000)).unwrap();
        blocks.start_at(at as u64).unwrap();
        assert_eq!(blocks.consumed(), at as u64);
        let all = drain(blocks);
        assert_eq!(all.bytes, &text[at..]);
        assert_eq!(all.states.is_empty(), how == Compression::Plain);
        let mut blocks = Blocks::new(opened(&path), small(3000, 1000)).unwrap();
        let error = blocks.start_at(text.len() as u64 + 1).unwrap_err();
        assert!(matches!(error, SourceError::Shrunk { .. }), "{error}");
        let mut blocks = Blocks::new(opened(&path), small(3000, 1000)).unwrap();
        blocks.start_at(text.len() as u64).unwrap();
        assert!(blocks.next().unwrap().is_none());
    }
}

#[test]
fn a_file_that_grows_or_shrinks_while_read() {
    let place = Place::new();
    let text = lines(4000, 4);
    let path = place.put("a.log", &text);
    let mut blocks = Blocks::new(opened(&path), small(1000, 1000)).unwrap();
    blocks.next().unwrap().unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more\n").unwrap();
    assert!(drain(blocks).bytes.ends_with(b"more\n"));
    let mut blocks = Blocks::new(opened(&path), small(1000, 1000)).unwrap();
    blocks.next().unwrap().unwrap();
    fs::write(&path, b"").unwrap();
    let all = drain(blocks);
    assert!(all.error.is_none() && all.bytes.len() < text.len());
}

#[test]
fn streams_have_no_identity_and_a_final_last_line() {
    let place = Place::new();
    let path = place.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let text = lines(5000, 5);
    for how in [Compression::Plain, Compression::Zstd] {
        let data = pack(how, &[&text[..], b"last"].concat());
        let to = path.clone();
        let writer = std::thread::spawn(move || fs::write(to, data).unwrap());
        let found = discover(std::slice::from_ref(&path));
        let file = found.series.first().unwrap().files.first().unwrap().clone();
        assert_eq!(file.kind, FileKind::Stream);
        let mut opened = open(&file, &Limits::default()).unwrap();
        assert_eq!(Known::default().recall(&mut opened).unwrap(), Recall::New);
        let all = drain(Blocks::new(opened, BlockOptions::default()).unwrap());
        writer.join().unwrap();
        assert!(all.bytes.ends_with(b"\nlast") && all.states.is_empty());
        assert_eq!(all.bytes.len(), text.len() + 4);
    }
}
