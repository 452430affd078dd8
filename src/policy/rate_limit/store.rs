//! Buckets that several gateways share: they stand in Redis, where one script looks at all that a
//! request needs and takes of all or of none.
//!
//! The same buckets as `table`'s, by Redis' own clock, so that gateways need not agree on the
//! time. A bucket is written as a moment and what was missing then, and is forgotten when it is
//! full again.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use boring::sha::Sha256;

use super::apply::{Reading, Verdict};
use super::key::{self, Asked};
use super::spec::RateLimit;
use super::state::{Fate, Limiter};
use super::table::Terms;

/// Takes a token of each bucket, or of none. `KEYS`: buckets. `ARGV`: for each, nanoseconds that a
/// token needs and that all of them need. Gives the place of the first bucket without a token, or
/// 0, and what each bucket lacks then, in nanoseconds.
pub const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {0}
for index, key in ipairs(KEYS) do
  local emission, depth = tonumber(ARGV[2 * index - 1]), tonumber(ARGV[2 * index])
  local used = 0
  local known = redis.call('GET', key)
  if known then
    local since, lacked = string.match(known, '^(%d+) (%d+)$')
    local passed = (now - tonumber(since)) * 1000
    used = math.max(tonumber(lacked) - math.max(passed, 0), 0)
  end
  if answer[1] == 0 and used + emission > depth then answer[1] = index end
  answer[index + 1] = used
end
if answer[1] == 0 then
  for index, key in ipairs(KEYS) do
    local used = answer[index + 1] + tonumber(ARGV[2 * index - 1])
    answer[index + 1] = used
    redis.call('SET', key, string.format('%.0f %.0f', now, used), 'PX', math.ceil(used / 1000000))
  end
end
return answer
";

/// Where buckets are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// `redis://user:password@host:port/database`.
    pub url: Arc<str>,
    /// The same without credentials.
    pub shown: Arc<str>,
    /// How long one check may take.
    pub timeout: Duration,
    pub on_error: OnError,
}

/// What becomes of requests that could not be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnError {
    /// They are served.
    Allow,
    /// They are refused.
    Deny,
    /// This process' own buckets decide.
    #[default]
    Local,
}

impl OnError {
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Local];

    /// As it is written.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        }
    }
}

/// What Redis is asked about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub keys: Vec<String>,
    /// Two for each key.
    pub terms: Vec<u64>,
    /// The place of each key's limit in the policy.
    limits: Vec<usize>,
    /// Of the first key; spreads threads' counts.
    spread: u64,
}

/// A key is a digest: all gateways come to the same, nobody finds two requests with one, and
/// nothing of a request stands in Redis.
struct Digesting(Sha256);

impl Hasher for Digesting {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not what it is for.
    fn finish(&self) -> u64 {
        0
    }
}

impl RateLimit {
    /// What Redis is asked about a request; `None` if no limit concerns it.
    #[must_use]
    pub fn shared(&self, asked: &Asked<'_>) -> Option<Question> {
        let mut question = Question {
            keys: Vec::new(),
            terms: Vec::new(),
            limits: Vec::new(),
            spread: 0,
        };
        for (index, limit) in self.limits.iter().enumerate() {
            let begin = || {
                let mut digest = Sha256::new();
                digest.update(limit.group.as_bytes());
                Digesting(digest)
            };
            let Some(Digesting(digest)) = key::feed(&limit.ways, asked, begin) else {
                continue;
            };
            let digest = digest.finish();
            let short: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
            // In braces: keys of one policy are in one place of a cluster.
            question
                .keys
                .push(format!("pingress:{{{}}}:{short}", self.id));
            let Terms { emission, depth } = Terms::of(&limit.bucket);
            question.terms.extend([emission, depth]);
            question.limits.push(index);
            let spread = digest.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            question.spread = spread.unwrap_or(0);
        }
        (!question.keys.is_empty()).then_some(question)
    }
}

impl Limiter {
    /// Does what Redis answered; `below` gives uniformly random numbers below its argument. `None`
    /// if that is no answer.
    pub fn heed(
        &self,
        question: &Question,
        answer: &[i64],
        below: impl FnOnce(u32) -> u32,
    ) -> Option<Verdict> {
        let (over, lacks) = answer.split_first()?;
        if lacks.len() != question.keys.len() {
            return None;
        }
        let places = question.limits.iter().zip(lacks);
        let reading = |(limit, lacks): (&usize, &i64)| {
            let terms = self.limits.get(*limit)?.terms;
            let lacks = u64::try_from(*lacks).ok()?;
            Some(Reading::of(*limit, terms, lacks, 0))
        };
        let count = |limit: usize, fate| {
            if let Some(state) = self.limits.get(limit) {
                state.count(question.spread, fate);
            }
        };
        let over = usize::try_from(*over).ok()?;
        if over == 0 {
            let nearest = places
                .filter_map(reading)
                .min_by_key(|known| known.remaining);
            question
                .limits
                .iter()
                .for_each(|limit| count(*limit, Fate::Allowed));
            return Some(nearest.map_or(Verdict::Unconcerned, Verdict::Allowed));
        }
        let mut places = places.skip(over - 1);
        let reading = reading(places.next()?)?;
        let (fate, verdict) = match self.spec.enforced.is_thrown(below) {
            true => (Fate::Limited, Verdict::Limited(reading)),
            false => (Fate::Observed, Verdict::Observed(reading)),
        };
        count(reading.limit, fate);
        Some(verdict)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shown,
            timeout,
            on_error,
            url: _,
        } = self;
        write!(f, "counted in {shown} within {timeout:?}")?;
        f.write_str(match on_error {
            OnError::Allow => ", served if it cannot be asked",
            OnError::Deny => ", 500 if it cannot be asked",
            OnError::Local => ", counted here if it cannot be asked",
        })
    }
}

#[cfg(test)]
mod tests;
