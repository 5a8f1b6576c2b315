//! Takes the two files of Swagger UI that `/docs` needs out of the archive that a crate brings: no network, no crate to
//! read archives with, and the files stay compressed as they are, in the form that browsers take.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

/// The only method that both formats have.
const DEFLATE: u64 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var("OUT_DIR")?;
    for name in FILES {
        let packed = find(&format!("/dist/{name}")).ok_or_else(|| format!("the archive has no `{name}` to take"))?;
        fs::write(Path::new(&out).join(format!("{name}.gz")), packed)?;
    }
    Ok(())
}

/// The archive's file whose path ends so, as a gzip file (RFC 1952): its data in the archive is deflated, too.
fn find(end: &str) -> Option<Vec<u8>> {
    // The end record says where the directory begins; only a comment may follow it.
    let ending = (0..=ARCHIVE.len().checked_sub(22)?).rev().find(|at| number(*at, 4) == Some(0x0605_4b50))?;
    let mut at = usize::try_from(number(ending + 16, 4)?).ok()?;
    while number(at, 4)? == 0x0201_4b50 {
        let length = |offset: usize| usize::try_from(number(at + offset, 2)?).ok();
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        if ARCHIVE.get(at + 46..at + 46 + name)?.ends_with(end.as_bytes()) {
            (number(at + 10, 2)? == DEFLATE).then_some(())?;
            let (check, packed, whole) = (number(at + 16, 4)?, number(at + 20, 4)?, number(at + 24, 4)?);
            let place = usize::try_from(number(at + 42, 4)?).ok()?;
            let skipped = usize::try_from(number(place + 26, 2)? + number(place + 28, 2)?).ok()?;
            let data = place + 30 + skipped;
            let data = ARCHIVE.get(data..data + usize::try_from(packed).ok()?)?;
            // No name, no time, no system.
            let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            let tail = [u32::try_from(check).ok()?.to_le_bytes(), u32::try_from(whole).ok()?.to_le_bytes()];
            return Some([&head[..], data, &tail.concat()].concat());
        }
        at += 46 + name + extra + comment;
    }
    None
}

/// The little-endian number of so many bytes.
fn number(at: usize, bytes: usize) -> Option<u64> {
    Some(ARCHIVE.get(at..at + bytes)?.iter().rev().fold(0, |all, byte| (all << 8) | u64::from(*byte)))
}
