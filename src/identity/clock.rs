//! The time as Cognito's clients write it: `Sun Nov 8 04:05:06 UTC 2026`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The moment; none for anything else. The day of the week is not compared: the signature is over the text.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [week, month, day, clock, "UTC", year] = parts.as_slice() else { return None };
    DAYS.iter().find(|known| *known == week)?;
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let clock: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = clock.as_slice() else { return None };
    let two = |text: &str| number(text, 2..=2);
    let moment = DateTime::new(
        i16::try_from(number(year, 4..=4)?).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(number(day, 1..=2)?).ok()?,
        i8::try_from(two(hour)?).ok()?,
        i8::try_from(two(minute)?).ok()?,
        i8::try_from(two(second)?).ok()?,
        0,
    );
    Some(moment.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u16> {
    (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_as_clients_write_it_and_nothing_else_is() {
        let read = |text| read(text).map(|moment| moment.to_string());
        assert_eq!(read("Sun Nov 8 04:05:06 UTC 2026").as_deref(), Some("2026-11-08T04:05:06Z"));
        assert_eq!(read("Sun Nov 08 04:05:06 UTC 2026").as_deref(), Some("2026-11-08T04:05:06Z"));
        assert_eq!(read("Thu Feb 29 23:59:59 UTC 2024").as_deref(), Some("2024-02-29T23:59:59Z"));
        for wrong in [
            "",
            "Sun Nov 8 04:05:06 2026",
            "Sun Nov 8 04:05:06 GMT 2026",
            "Sun Nov  8 04:05:06 UTC 2026",
            "sun Nov 8 04:05:06 UTC 2026",
            "Sun Nov 8 4:05:06 UTC 2026",
            "Sun Nov 31 04:05:06 UTC 2026",
            "Sun Nov 0 04:05:06 UTC 2026",
            "Sun Nov 8 24:05:06 UTC 2026",
            "Sun Nov +8 04:05:06 UTC 2026",
            "2026-11-08T04:05:06Z",
            "Sun Nov 8 04:05:06 UTC 20266",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
