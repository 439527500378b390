//! A bounded table of things that clients make and forget: each has a random id and goes away when it was idle for too long.
//!
//! Whoever works with an entry holds its `Arc`; a held entry is never idle. Time comes in as an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

/// A bounded table whose entries expire.
pub struct ExpiringMap<V> {
    /// What an entry is called in errors.
    name: &'static str,
    limit: usize,
    idle: Duration,
    /// Whether an idle entry may be dropped to make room.
    evictable: fn(&V) -> bool,
    entries: Mutex<HashMap<Uuid, Entry<V>>>,
}

struct Entry<V> {
    value: Arc<V>,
    used: Instant,
}

impl<V> Entry<V> {
    /// Whether somebody works with it. New holders only come through the table's lock.
    fn held(&self) -> bool {
        Arc::strong_count(&self.value) > 1
    }
}

impl<V> ExpiringMap<V> {
    /// A table of at most `limit` entries, each of which goes after being idle for `idle`.
    pub fn new(name: &'static str, limit: usize, idle: Duration, evictable: fn(&V) -> bool) -> Self {
        ExpiringMap {
            name,
            limit,
            idle,
            evictable,
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// Adds an entry under a new random id. A full table drops its longest idle entry; without one it errors with `ResourceExhausted`.
    pub fn insert(&self, value: Arc<V>, now: Instant) -> Result<Uuid, Status> {
        let mut entries = self.entries.lock();
        if entries.len() >= self.limit {
            let victim = entries
                .iter()
                .filter(|(_, entry)| !entry.held() && (self.evictable)(&entry.value))
                .min_by_key(|(_, entry)| entry.used)
                .map(|(id, _)| *id);
            match victim {
                Some(id) => entries.remove(&id),
                None => {
                    return Err(Status::resource_exhausted(format!(
                        "too many {}s: at most {}",
                        self.name, self.limit
                    )));
                }
            };
        }
        let id = Uuid::new_v4();
        entries.insert(id, Entry { value, used: now });
        Ok(id)
    }

    /// The entry of an id; using it keeps it.
    pub fn get(&self, id: &Uuid, now: Instant) -> Option<Arc<V>> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(id)?;
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Takes an entry out.
    pub fn remove(&self, id: &Uuid) -> Option<Arc<V>> {
        self.entries.lock().remove(id).map(|entry| entry.value)
    }

    /// Drops what was idle for too long and returns it.
    pub fn sweep(&self, now: Instant) -> Vec<Arc<V>> {
        let mut gone = Vec::new();
        self.entries.lock().retain(|_, entry| {
            if entry.held() {
                entry.used = now;
                return true;
            }
            let keep = now.saturating_duration_since(entry.used) < self.idle;
            if !keep {
                gone.push(entry.value.clone());
            }
            keep
        });
        gone
    }

    /// Entries that nobody holds and nobody used for `idle`, and for which `wanted` holds.
    pub fn unused(&self, idle: Duration, now: Instant, wanted: impl Fn(&V) -> bool) -> Vec<(Uuid, Arc<V>)> {
        let entries = self.entries.lock();
        let old = |entry: &Entry<V>| now.saturating_duration_since(entry.used) >= idle;
        entries
            .iter()
            .filter(|(_, entry)| !entry.held() && old(entry) && wanted(&entry.value))
            .map(|(id, entry)| (*id, entry.value.clone()))
            .collect()
    }

    /// Whether the entry has not been used for `idle`; false if it is gone.
    pub fn is_unused(&self, id: &Uuid, idle: Duration, now: Instant) -> bool {
        self.entries
            .lock()
            .get(id)
            .is_some_and(|entry| now.saturating_duration_since(entry.used) >= idle)
    }

    /// All entries.
    pub fn values(&self) -> Vec<Arc<V>> {
        self.entries.lock().values().map(|entry| entry.value.clone()).collect()
    }

    /// How many entries there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn map(limit: usize) -> ExpiringMap<u32> {
        ExpiringMap::new("thing", limit, IDLE, |value| *value != 7)
    }

    #[test]
    fn idle_entries_go_and_held_ones_stay() {
        let (map, start) = (map(10), Instant::now());
        let one = map.insert(Arc::new(1), start).unwrap();
        let two = map.insert(Arc::new(2), start).unwrap();
        let held = map.get(&two, start).unwrap();
        assert_eq!(map.sweep(start + IDLE).into_iter().map(|v| *v).collect::<Vec<_>>(), [1]);
        assert!(map.get(&one, start + IDLE).is_none());
        drop(held);
        assert!(
            map.sweep(start + IDLE * 2 - Duration::from_secs(1)).is_empty(),
            "the hold counted as use"
        );
        assert_eq!(map.sweep(start + IDLE * 3).len(), 1);
        assert_eq!(map.len(), 0);
    }

    #[test]
    fn a_full_table_drops_the_longest_idle_but_not_the_protected_or_held() {
        let (map, start) = (map(2), Instant::now());
        let seven = map.insert(Arc::new(7), start).unwrap();
        let one = map.insert(Arc::new(1), start + Duration::from_secs(1)).unwrap();
        let two = map.insert(Arc::new(2), start + Duration::from_secs(2)).unwrap();
        assert!(map.get(&one, start).is_none() && map.get(&seven, start).is_some());
        let _held = map.get(&two, start).unwrap();
        assert_eq!(map.insert(Arc::new(3), start).unwrap_err().code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn unused_lists_only_old_free_wanted_entries() {
        let (map, start) = (map(10), Instant::now());
        let one = map.insert(Arc::new(1), start).unwrap();
        map.insert(Arc::new(2), start).unwrap();
        assert!(map.unused(IDLE, start + Duration::from_secs(9), |_| true).is_empty());
        let found = map.unused(IDLE, start + IDLE, |value| *value == 1);
        assert_eq!(found.len(), 1);
        assert!(map.is_unused(&one, IDLE, start + IDLE));
        map.get(&one, start + IDLE);
        assert!(!map.is_unused(&one, IDLE, start + IDLE));
    }
}
