//! Intermediate results that several metrics share.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A cache of intermediate results, keyed by type and name.
#[derive(Debug, Default)]
pub struct Cache(RefCell<HashMap<(TypeId, String), Rc<dyn Any>>>);

impl Cache {
    /// The cached value of type `T` under `key`, or that of `compute`, which is cached. `compute` may use the cache
    /// itself, with other keys.
    pub fn get_or_compute<T: 'static>(&self, key: &str, compute: impl FnOnce() -> T) -> Rc<T> {
        let key = (TypeId::of::<T>(), key.to_owned());
        let cached = self.0.borrow().get(&key).cloned();
        if let Some(Ok(cached)) = cached.map(Rc::downcast::<T>) {
            return cached;
        }
        let computed = Rc::new(compute());
        self.0.borrow_mut().insert(key, computed.clone());
        computed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_computed_once() {
        let cache = Cache::default();
        let mut computed = 0;
        for _ in 0..3 {
            let value = cache.get_or_compute("a", || {
                computed += 1;
                *cache.get_or_compute("inner", || 2_u32) + 1
            });
            assert_eq!(*value, 3);
        }
        assert_eq!(computed, 1);
        assert_eq!(*cache.get_or_compute("a", || "of another type"), "of another type");
        assert_eq!(*cache.get_or_compute("a", || 9_u32), 3);
    }
}
