//! Work on several threads, whose results come in the order of the work.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// Does `work` for every item on so many threads; `look` sees items and results in the order of the items.
pub(crate) fn spread<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut look: impl FnMut(T, R),
) {
    let items = Mutex::new(items.enumerate());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (done, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((place, item)) = next() {
                    let result = work(&item);
                    if done.send((place, item, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (place, item, result) in results {
            early.insert(place, (item, result));
            while let Some((item, result)) = early.remove(&due) {
                due += 1;
                look(item, result);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_from_any_number_of_threads() {
        for jobs in 1..5 {
            let mut seen = Vec::new();
            spread(0..100u64, jobs, |item| item * 2, |item, result| seen.push((item, result)));
            assert!(seen.iter().copied().eq((0..100).map(|item| (item, item * 2))));
        }
    }
}
