use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(time in any::<i32>(), offset in -50_000i64..50_000, line in proptest::collection::vec(any::<u8>(), 0..300),
                                  spans in proptest::collection::vec((1u8..30, 0u32..300, 0u32..300), 0..60), ordinal in any::<u32>()) {
        let time = i64::from(time) * 1_000_003;
        let head = Head { kind: Kind::Attempt, action: Some(Action::Relayed), time, precision: Precision::Micro,
                          written: time.div_euclid(1_000_000) + offset, ordinal };
        let spans: Vec<Span> = spans.into_iter().filter(|s| (s.1 + s.2) as usize <= line.len())
            .filter_map(|s| Some(Span { field: Field::from_u8(s.0)?, start: s.1, len: s.2 })).collect();
        let mut out = vec![];
        encode(&mut out, &head, &spans, &line, b"");
        encode(&mut out, &head, &[], b"next", b"");
        let (event, rest) = Event::decode(&out).unwrap();
        prop_assert_eq!(event.head, head);
        prop_assert_eq!(event.line(), &line[..]);
        prop_assert_eq!(event.fields().count(), spans.len());
        for ((field, value), span) in event.fields().zip(&spans) {
            prop_assert_eq!(field, span.field);
            prop_assert_eq!(value, &line[span.start as usize..(span.start + span.len) as usize]);
        }
        prop_assert_eq!(Event::decode(rest).unwrap().0.line(), b"next");
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for event in decode_all(&bytes) { let _ = (event.identity(), event.line(), event.fields().count()); }
    }
}
