//! The fields of a `message/delivery-status` (RFC 3464, RFC 6533) or `message/tracking-status` (RFC 3886) part, in groups.

use super::mime::{Head, unfolded};

/// Fields in the order they stand: name as written, value unfolded.
pub(super) type Group = Vec<(String, String)>;

/// Most fields of one part that are kept (R6).
const MAX_FIELDS: usize = 100_000;

/// Names that only the part about one recipient has.
const OF_RECIPIENT: [&str; 8] =
    ["final-recipient", "original-recipient", "action", "status", "remote-mta", "diagnostic-code", "final-log-id", "x-actual-recipient"];
/// Names that only the part about the message has.
const OF_MESSAGE: [&str; 6] =
    ["reporting-mta", "original-envelope-id", "dsn-gateway", "received-from-mta", "arrival-date", "x-postfix-queue-id"];

fn is_any(name: &str, names: &[&str]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// The value of a field.
pub(super) fn get<'a>(group: &'a Group, name: &str) -> Option<&'a str> {
    group.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
}

/// Whether text looks like the body of a delivery-status part, whatever its type says.
pub(super) fn looks_like_status(text: &str) -> bool {
    let names = || text.lines().take(64).filter_map(|l| l.split_once(':')).map(|(n, _)| n);
    let first = names().next().is_some_and(|n| is_any(n, &OF_MESSAGE) || is_any(n, &OF_RECIPIENT));
    first && names().any(|n| is_any(n, &["final-recipient", "original-recipient"])) && names().any(|n| is_any(n, &["action", "status"]))
}

/// The group about a message, and those about each of its recipients.
pub(super) type Section = (Group, Vec<Group>);

/// What a part says of each message: nearly always one. Blank lines between groups may be missing or too many.
pub(super) fn sections(text: &str) -> Vec<Section> {
    let (mut done, mut message, mut recipients, mut current) = (Vec::<Section>::new(), Group::new(), Vec::new(), Group::new());
    let mut left = MAX_FIELDS;
    for block in blocks(text) {
        let mut fresh = true;
        for (name, value) in Head::split(block.as_bytes()).0.fields() {
            if left == 0 {
                break;
            }
            left -= 1;
            let (name, value) = (String::from_utf8_lossy(name).into_owned(), unfolded(&String::from_utf8_lossy(value)));
            if fresh && is_any(&name, &OF_MESSAGE) && !(current.is_empty() && recipients.is_empty()) {
                recipients.push(std::mem::take(&mut current));
                done.push((std::mem::take(&mut message), std::mem::take(&mut recipients)));
            }
            let about_message =
                current.is_empty() && (is_any(&name, &OF_MESSAGE) || (recipients.is_empty() && !is_any(&name, &OF_RECIPIENT)));
            if about_message && !(fresh && !message.is_empty() && !is_any(&name, &OF_MESSAGE)) {
                message.push((name, value));
                fresh = false;
                continue;
            }
            if begins_another(&current, &name, &value, fresh) {
                recipients.push(std::mem::take(&mut current));
            }
            fresh = false;
            current.push((name, value));
        }
    }
    recipients.push(current);
    done.push((message, recipients));
    for (_, recipients) in &mut done {
        recipients.retain(|g| g.iter().any(|(n, _)| is_any(n, &OF_RECIPIENT)));
    }
    // A group about the message that stands behind those about its recipients.
    if let [.., before, last] = done.as_mut_slice()
        && last.1.is_empty()
    {
        before.0.append(&mut last.0);
        done.pop();
    }
    done
}

/// Runs of lines between blank ones.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\n', '\r']);
        loop {
            // A line of blanks only parts groups, too; it must not be taken for a continuation.
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            if line.trim().is_empty() && !rest.is_empty() {
                rest = after;
                continue;
            }
            break;
        }
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim().is_empty() {
                break;
            }
            end += line.len();
        }
        let (block, after) = rest.split_at(end);
        rest = after;
        Some(block)
    })
}

/// Whether a field cannot be of the same recipient: one that is there already, or, behind a blank line, a full group before it.
fn begins_another(current: &Group, name: &str, value: &str, behind_blank: bool) -> bool {
    if current.is_empty() || !is_any(name, &OF_RECIPIENT) {
        return false;
    }
    let named = |g: &Group| g.iter().any(|(n, _)| is_any(n, &["final-recipient", "original-recipient"]));
    let decided = current.iter().any(|(n, _)| is_any(n, &["action", "status"]));
    let twice =
        get(current, name).is_some_and(|old| is_any(name, &["final-recipient", "original-recipient", "action", "status"]) && old != value);
    twice || (behind_blank && ((named(current) && decided) || get(current, name).is_some()))
}

/// The address of an `rfc822;` or `utf-8;` field (RFC 3464, 2.3.1; RFC 6533, 3).
pub(super) fn address(value: &str) -> Option<String> {
    let (kind, rest) = match value.split_once(';') {
        // A `;` may stand inside a quoted local part of an address without a type.
        Some((kind, rest)) if !kind.contains(['@', '"', '<']) => (kind.trim().to_ascii_lowercase(), rest.trim()),
        _ => (String::new(), value.trim()),
    };
    let bare = rest.strip_prefix('<').and_then(|r| r.strip_suffix('>')).unwrap_or(rest).trim();
    // RFC 3464 allows a comment behind an address.
    let bare = match bare.rsplit_once(" (") {
        Some((address, comment)) if comment.ends_with(')') && !address.ends_with('"') => address.trim(),
        _ => bare,
    };
    let address = if kind == "utf-8" || bare.contains("\\x{") { unescaped(bare) } else { bare.to_string() };
    (!address.is_empty()).then_some(address)
}

/// `\x{HEX}` of RFC 6533, 3 to its character.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        out.push_str(before);
        let decoded = after.split_once('}').and_then(|(hex, tail)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, tail)));
        match decoded {
            Some((c, tail)) => {
                out.push(c);
                rest = tail;
            }
            None => {
                out.push_str("\\x{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Name and address of the host in an MTA-name field: `dns; mx.c [192.0.2.1]`, `mx.c (192.0.2.1, the server)`.
pub(super) fn host(value: &str) -> (Option<String>, Option<String>) {
    let rest = value.split_once(';').map_or(value, |(_, r)| r).trim();
    let ip = rest
        .split(['[', ']', '(', ')', ' ', ',', ';'])
        .map(|w| w.trim_start_matches("IPv6:").trim_start_matches("::ffff:"))
        .find(|w| w.parse::<std::net::IpAddr>().is_ok())
        .map(str::to_string);
    let name = rest.split([' ', '(', '[', ';', ',']).next().unwrap_or_default().trim_matches(['<', '>', '"']).trim_end_matches('.');
    let is_ip = name.parse::<std::net::IpAddr>().is_ok();
    ((!name.is_empty() && !is_ip).then(|| name.to_string()), ip)
}

/// What stands behind the type of a typed field, `smtp; 550 no`.
pub(super) fn behind_type(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if kind.trim().len() < 24 && kind.trim().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => rest.trim(),
        _ => value.trim(),
    }
}

/// Seconds since 1970 of a date (RFC 5322, 3.3), and those of its local time read as UTC.
pub(super) fn date(value: &str) -> Option<(i64, i64)> {
    let line = format!("{}\n", value.get(..128.min(value.len())).unwrap_or_default());
    let date = mail_parser::DateTime::parse_rfc822(&line).filter(mail_parser::DateTime::is_valid)?;
    let local = crate::model::time::civil_seconds(
        i32::from(date.year),
        u32::from(date.month),
        u32::from(date.day),
        u32::from(date.hour) * 3600 + u32::from(date.minute) * 60 + u32::from(date.second),
    )?;
    let offset = i64::from(date.tz_hour) * 3600 + i64::from(date.tz_minute) * 60;
    Some((if date.tz_before_gmt { local + offset } else { local - offset }, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_and_without_their_blank_lines() {
        let shapes = |t: &str| sections(t).iter().map(|(m, r)| (m.len(), r.iter().map(Vec::len).collect::<Vec<_>>())).collect::<Vec<_>>();
        let shape = |t: &str| {
            let all = shapes(t);
            assert_eq!(all.len(), 1, "{all:?}");
            all[0].clone()
        };
        let first = "Reporting-MTA: dns; a\nArrival-Date: x\n\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.1.1\n\n";
        assert_eq!(shape(&format!("{first}Final-Recipient: rfc822; c@d\nAction: delayed\nStatus: 4.0.0\n")), (2, vec![3, 3]));
        // Exim's order; no blank line at all.
        assert_eq!(
            shape(
                "Reporting-MTA: dns; a\nAction: failed\nFinal-Recipient: rfc822;a\nStatus: 5.0.0\nAction: delayed\nFinal-Recipient: rfc822;b"
            ),
            (1, vec![3, 2])
        );
        // A blank line in the middle of a recipient; a line of blanks; a folded field.
        assert_eq!(
            shape(
                "Reporting-MTA: dns; a\n\nFinal-Recipient: rfc822; a@b\n\nAction: failed\n Status: x\n \nOriginal-Recipient: rfc822;c\nAction: failed"
            ),
            (1, vec![2, 2])
        );
        // No group about the message.
        assert_eq!(shape("Final-Recipient: rfc822; a@b\nAction: failed"), (0, vec![2]));
        assert_eq!(shape("Reporting-MTA: dns; a\n\n"), (1, vec![]));
        // Of two messages; the one about the message behind its recipients.
        assert_eq!(shapes(&format!("{first}{first}")), [(2, vec![3]), (2, vec![3])]);
        assert_eq!(shape("Final-Recipient: rfc822; a@b\nAction: failed\n\nReporting-MTA: dns; a\n"), (1, vec![2]));
    }

    #[test]
    fn values_of_typed_fields() {
        assert_eq!(address("RFC822; <a@b>").unwrap(), "a@b");
        assert_eq!(address("a@b").unwrap(), "a@b");
        assert_eq!(address("utf-8;ok\\x{FC}@x.test").unwrap(), "ok\u{fc}@x.test");
        assert_eq!(address("utf-8; \\x{}\\x{110000}\\x{41").unwrap(), "\\x{}\\x{110000}\\x{41");
        assert_eq!(address("rfc822;a@b (a comment)").unwrap(), "a@b");
        assert_eq!(host("dns; mx.flaky.test [198.51.100.9]"), (Some("mx.flaky.test".into()), Some("198.51.100.9".into())));
        assert_eq!(host("dns; client (client [::ffff:198.51.100.1])").1.unwrap(), "198.51.100.1");
        assert_eq!(host("dns;192.0.2.1"), (None, Some("192.0.2.1".into())));
        assert_eq!(behind_type("smtp; 550 no"), "550 no");
        assert_eq!(behind_type("550 no; really"), "550 no; really");
        assert_eq!(date("Mon, 23 Nov 2026 12:00:17 +0100 (CET)").unwrap(), (1_795_431_617, 1_795_435_217));
        assert_eq!(date("nonsense"), None);
    }
}
