//! Bodies in a coding, part by part.
//!
//! After each part everything that came so far can be read by the client: nothing says when the next
//! part comes, and an event held back is an event lost. In parts of 16 KB this makes JSON half a
//! percent larger, in parts as small as packets an eighth.
//!
//! What an encoder keeps is bounded to 3 MB: see `WINDOW` and `brotli`. Pingora's own
//! encoders have no such bound, hold back what they like, and never end a Brotli stream.

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::zstd_safe::CParameter;

use super::spec::{Coding, Leveled};

/// Binary logarithm of the bytes that Zstandard and Brotli look back, at most; gzip always has
/// 15. By level an encoder takes 0.1 to 1 MB with Zstandard, 0.2 to 2.8 with Brotli and 0.3 with gzip.
const WINDOW: u32 = 17;

/// Of Brotli; Zstandard knows one that is nearly as small.
const LEAST_WINDOW: u32 = 10;

/// From this level on Brotli's encoder takes 32 MB for a window of less than `WINDOW`.
const BROTLI_WHOLE_WINDOW: u8 = 5;

/// Bytes; a Brotli encoder that is told of more takes larger tables.
const BROTLI_LARGE: u64 = 1 << 20;

/// From this level on Zstandard's tables are made for windows of megabytes, unless told otherwise.
const ZSTD_LARGE_TABLES: u8 = 4;

/// Bytes that Brotli puts out at a time.
const OUTPUT: usize = 4096;

/// Puts one body into a coding.
pub struct Encoder {
    stream: Stream,
    coding: Coding,
    read: u64,
    written: u64,
}

enum Stream {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
    Ended,
}

impl Encoder {
    /// `length` is that of the body, where it is known; a short one needs less memory.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(coding: Leveled, length: Option<u64>) -> io::Result<Self> {
        let Leveled { coding, level } = coding;
        let bits = length.map_or(WINDOW, |length| {
            let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
            bits.clamp(LEAST_WINDOW, WINDOW)
        });
        let stream = match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level.into());
                Stream::Gzip(GzEncoder::new(Vec::new(), level))
            }
            Coding::Brotli => {
                let params = brotli(level, length, bits);
                let writer = CompressorWriter::with_params(Vec::new(), OUTPUT, &params);
                Stream::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), level.into())?;
                // Its tables are as large as the body, if that is short.
                encoder.set_pledged_src_size(length)?;
                encoder.window_log(bits)?;
                if level >= ZSTD_LARGE_TABLES && bits == WINDOW {
                    encoder.set_parameter(CParameter::HashLog(WINDOW))?;
                    encoder.set_parameter(CParameter::ChainLog(WINDOW))?;
                }
                Stream::Zstd(encoder)
            }
        };
        Ok(Self {
            stream,
            coding,
            read: 0,
            written: 0,
        })
    }

    /// Puts in the next part of the body. What comes out lets all of it be read.
    ///
    /// # Errors
    /// The body is not as long as it was said to be.
    pub fn push(&mut self, part: &[u8]) -> io::Result<Bytes> {
        self.read += part.len() as u64;
        let out = match &mut self.stream {
            Stream::Gzip(writer) => flushed(writer, part, GzEncoder::get_mut),
            Stream::Brotli(writer) => flushed(&mut **writer, part, CompressorWriter::get_mut),
            Stream::Zstd(writer) => flushed(writer, part, zstd::Encoder::get_mut),
            Stream::Ended => Ok(Bytes::new()),
        };
        self.count(out)
    }

    /// Puts in the last part and ends the stream; nothing comes after that.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, part: &[u8]) -> io::Result<Bytes> {
        self.read += part.len() as u64;
        let out = match std::mem::replace(&mut self.stream, Stream::Ended) {
            Stream::Gzip(mut writer) => writer.write_all(part).and_then(|()| writer.finish()),
            Stream::Brotli(mut writer) => writer.write_all(part).map(|()| writer.into_inner()),
            Stream::Zstd(mut writer) => writer.write_all(part).and_then(|()| writer.finish()),
            Stream::Ended => Ok(Vec::new()),
        };
        self.count(out.map(Bytes::from))
    }

    #[must_use]
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Bytes of the body so far, and what has become of them.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.read, self.written)
    }

    fn count(&mut self, out: io::Result<Bytes>) -> io::Result<Bytes> {
        self.written += out.as_ref().map_or(0, Bytes::len) as u64;
        out
    }
}

/// What keeps a Brotli encoder's tables small.
fn brotli(level: u8, length: Option<u64>, bits: u32) -> BrotliEncoderParams {
    let bits = match level {
        BROTLI_WHOLE_WINDOW.. => WINDOW,
        _ => bits,
    };
    let hint = length.unwrap_or(0).min(BROTLI_LARGE - 1);
    BrotliEncoderParams {
        quality: level.into(),
        lgwin: bits.try_into().unwrap_or_default(),
        size_hint: hint.try_into().unwrap_or(0),
        ..BrotliEncoderParams::default()
    }
}

fn flushed<W: Write>(
    writer: &mut W,
    part: &[u8],
    output: impl Fn(&mut W) -> &mut Vec<u8>,
) -> io::Result<Bytes> {
    writer.write_all(part)?;
    writer.flush()?;
    Ok(std::mem::take(output(writer)).into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Reads as much as there is of a stream.
    fn decoded(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::new();
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Zstd => Box::new(zstd::Decoder::new(bytes).unwrap()),
        };
        let mut part = [0; 512];
        let ends = loop {
            match reader.read(&mut part) {
                Ok(0) => break true,
                Ok(count) => text.extend_from_slice(&part[..count]),
                Err(_) => break false,
            }
        };
        (text, ends)
    }

    fn text(length: usize) -> Vec<u8> {
        let words = ["shop", "cart", "price", "{\"id\":", "},\n", "true"];
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = Vec::new();
        while text.len() < length {
            text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
            text.extend_from_slice(random.u16(..).to_string().as_bytes());
        }
        text.truncate(length);
        text
    }

    #[test]
    fn every_part_can_be_read_before_the_next_comes_at_every_level() {
        let text = text(40_000);
        for coding in Coding::ALL {
            for level in coding.levels() {
                for length in [None, Some(text.len() as u64)] {
                    let mut encoder = Encoder::new(Leveled { coding, level }, length).unwrap();
                    let (mut sent, mut all) = (0, Vec::new());
                    for part in [1, 7, 300, 5_000, 20_000] {
                        all.extend(encoder.push(&text[sent..sent + part]).unwrap());
                        sent += part;
                        let (read, ends) = decoded(coding, &all);
                        assert_eq!(read, text[..sent], "{coding:?} {level}");
                        assert!(!ends || coding == Coding::Zstd, "{coding:?} {level}");
                    }
                    all.extend(encoder.finish(&text[sent..]).unwrap());
                    assert_eq!(decoded(coding, &all), (text.clone(), true));
                    assert_eq!(encoder.bytes(), (text.len() as u64, all.len() as u64));
                    assert!(all.len() < text.len() * 3 / 4, "{coding:?} {level}");
                    assert!(encoder.finish(b"").unwrap().is_empty());
                }
            }
        }
    }

    #[test]
    fn a_brotli_encoder_takes_no_more_than_three_megabytes() {
        let (coding, text) = (Coding::Brotli, text(200_000));
        for level in coding.levels() {
            for length in [
                None,
                Some(2_000),
                Some(60_000),
                Some(200_000),
                Some(5_000_000),
            ] {
                let used = allocation_counter::measure(|| {
                    let mut encoder = Encoder::new(Leveled { coding, level }, length).unwrap();
                    for part in text.chunks(16 * 1024) {
                        encoder.push(part).unwrap();
                    }
                });
                let most = used.bytes_max;
                assert!(most < 3_000_000, "level {level}, {length:?}: {most} bytes");
            }
        }
    }

    #[test]
    fn bodies_of_any_length_come_back() {
        for coding in Coding::ALL {
            let level = coding.default_level();
            for length in [0, 1, 2, 1023, 1024, 1025, 65_536, 300_000] {
                let text = text(length);
                for known in [None, Some(length as u64)] {
                    let mut encoder = Encoder::new(Leveled { coding, level }, known).unwrap();
                    let all = encoder.finish(&text).unwrap();
                    assert_eq!(decoded(coding, &all), (text.clone(), true), "{coding:?}");
                }
            }
        }
    }

    #[test]
    fn a_body_that_is_not_as_long_as_it_said_is_never_taken_for_one() {
        let mut encoder = Encoder::new(
            Leveled {
                coding: Coding::Zstd,
                level: 3,
            },
            Some(100),
        )
        .unwrap();
        let begun = encoder.push(b"short").unwrap();
        assert!(encoder.finish(b"").is_err());
        assert_eq!(decoded(Coding::Zstd, &begun).0, b"short");
    }
}
