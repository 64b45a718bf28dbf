use super::*;

const PACKED: [Compression; 4] = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

#[test]
fn several_members_streams_and_frames() {
    let place = Place::new();
    let (a, b) = (lines(5000, 1), lines(5000, 2));
    for how in PACKED {
        let data = [pack(how, &a), pack(how, b""), pack(how, &b)].concat();
        let all = read_all(&place.put("a", &data), small(10_000, 1000));
        assert!(all.error.is_none(), "{how} {:?}", all.error);
        assert_eq!(all.bytes, [&a[..], &b].concat(), "{how}");
        // padding
        let all = read_all(&place.put("a", &[&data[..], &[0; 4096]].concat()), small(10_000, 1000));
        assert!(all.error.is_none() && all.bytes.len() == a.len() + b.len(), "{how}");
        // a line across the border of two members
        let (x, y) = a.split_at(a.len() / 2 + 3);
        let all = read_all(&place.put("a", &[pack(how, x), pack(how, y)].concat()), small(10_000, 1000));
        assert_eq!(all.bytes, a, "{how}");
    }
    let skippable = [&b"\x52\x2a\x4d\x18\x03\0\0\0abc"[..], &pack(Compression::Zstd, &a)].concat();
    let data = [&skippable[..], &skippable].concat();
    assert_eq!(read_all(&place.put("a", &data), small(10_000, 1000)).bytes, [&a[..], &a].concat());
}

#[test]
fn garbage_after_the_end_is_told() {
    let place = Place::new();
    let a = lines(500, 1);
    for how in PACKED {
        let all = read_all(&place.put("a", &[pack(how, &a), b"garbage".to_vec()].concat()), small(10_000, 1000));
        assert_eq!(all.bytes, a, "{how}");
        assert!(matches!(all.error, Some(SourceError::Damaged { .. })), "{how}");
        assert!(!all.last().complete);
    }
}

#[test]
fn cut_off_data_gives_what_is_there() {
    let place = Place::new();
    let text = lines(40_000, 3);
    for how in PACKED {
        let data = pack(how, &text);
        for keep in [3, 11, 20, data.len() / 2, data.len() - 5, data.len() - 1] {
            let path = place.put("cut.log", &data[..keep]);
            if Compression::detect(&data[..keep]) != how {
                continue; // too short to be told from text
            }
            let all = read_all(&path, small(50_000, 1000));
            let Some(SourceError::Damaged { position, decompressed, .. }) = &all.error else {
                panic!("{how} {keep}: {:?}", all.error);
            };
            assert_eq!(*position, keep as u64, "{how}");
            let message = all.error.as_ref().unwrap().to_string();
            assert!(message.contains("cut.log") && message.contains("cut off"), "{how} {keep}: {message}");
            let got = [&all.bytes[..], &all.unterminated].concat();
            assert_eq!(got.len() as u64, *decompressed);
            assert!(text.starts_with(&got), "{how}");
            assert!(keep < 100 || got.len() > text.len() / 4, "{how} {keep} {}", got.len());
            assert!(!all.last().complete && all.last().length == all.bytes.len() as u64);
            // once it is whole, the rest follows
            let path = place.put("whole.log", &data);
            let (_, rest) = again(&Known::new(vec![all.last()]), &path, small(50_000, 1000));
            assert_eq!([&all.bytes[..], &rest.bytes].concat(), text, "{how} {keep}");
        }
    }
}

#[test]
fn flipped_bits_are_told() {
    let place = Place::new();
    let text = lines(40_000, 4);
    for how in PACKED {
        let mut data = pack(how, &text);
        let at = data.len() / 2;
        data[at] ^= 0x55;
        data[at + 1] ^= 0x55;
        let all = read_all(&place.put("a", &data), small(50_000, 1000));
        assert!(matches!(all.error, Some(SourceError::Damaged { .. })), "{how}");
        assert!(!all.last().complete);
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let place = Place::new();
    let text = b"a line\n".repeat(1 << 20);
    for how in PACKED {
        let path = place.put("bomb", &pack(how, &text));
        let run = |limits: Limits| drain(Blocks::new(open(&SourceFile::new(&path), &limits).unwrap(), small(50_000, 1000)).unwrap());
        let all = run(Limits { max_decompressed: Some(1_000_000), ..Limits::default() });
        assert!(matches!(all.error, Some(SourceError::TooLarge { .. })), "{how}");
        assert_eq!(all.bytes.len() + all.unterminated.len(), 1_000_000, "{how}");
        let all = run(Limits { max_ratio: Some(20), ratio_floor: 1 << 20, ..Limits::default() });
        assert!(matches!(all.error, Some(SourceError::TooLarge { .. })), "{how}");
        assert!(all.bytes.len() < 3 << 20);
        let all = run(Limits { max_decompressed: Some(text.len() as u64), ..Limits::default() });
        assert!(all.error.is_none() && all.last().complete, "{how}");
    }
}

#[test]
fn binary_and_foreign_files_are_told() {
    let place = Place::new();
    for how in ALL {
        let path = place.put("wtmp", &pack(how, b"text\n\0more"));
        let Err(error) = Blocks::new(opened(&path), BlockOptions::default()) else { panic!() };
        assert!(matches!(error, SourceError::Binary { position: 5, .. }), "{how}: {error}");
        let error = Known::default().recall(&mut opened(&path)).unwrap_err();
        assert!(error.to_string().contains("wtmp"));
        let late = [&[b'x'; 8191][..], b"\n\0\n"].concat();
        let all = read_all(&place.put("late", &pack(how, &late)), small(100, 10_000));
        assert_eq!(all.bytes, late, "{how}");
    }
    for data in [&b"\x1f\x9d\x90x"[..], b"PK\x03\x04\x14\0", b"LZIP\x01"] {
        let error = Blocks::new(opened(&place.put("a", data)), BlockOptions::default()).err().unwrap();
        assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
    }
    // text that looks like a beginning of bzip2
    assert_eq!(read_all(&place.put("a", b"BZh9 is a host\n"), small(5, 50)).bytes, b"BZh9 is a host\n");
}

#[test]
fn a_reader_that_stops_early_leaves_no_thread_waiting() {
    let place = Place::new();
    let path = place.put("a", &pack(Compression::Gzip, &lines(100_000, 5)));
    for _ in 0..50 {
        let mut blocks = Blocks::new(opened(&path), small(1000, 1000)).unwrap();
        blocks.next().unwrap().unwrap();
    }
}
