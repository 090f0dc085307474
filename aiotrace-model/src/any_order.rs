//! Walks hash maps by methods whose names say that their order means nothing: it is no order of time, of numbers or
//! of names. `clippy.toml` forbids the maps' own methods, and loops over a map. The model's maps use the same hash in
//! each run, so that findings of the same moment come in the same order when a recording is read.

use std::collections::HashMap;

/// The entries of a map, in an order that means nothing.
pub(crate) trait AnyOrder {
    /// The key of an entry.
    type Key;
    /// The value of an entry.
    type Value;

    /// The entries.
    fn in_any_order(&self) -> impl Iterator<Item = (&Self::Key, &Self::Value)> + Clone;

    /// The entries, with values that can be changed.
    fn in_any_order_mut(&mut self) -> impl Iterator<Item = (&Self::Key, &mut Self::Value)>;

    /// The entries, taken out.
    fn into_any_order(self) -> impl Iterator<Item = (Self::Key, Self::Value)>;

    /// Removes the entries for which `keep` is false.
    fn retain_in_any_order(&mut self, keep: impl FnMut(&Self::Key, &mut Self::Value) -> bool);

    /// Removes some entries, and returns them.
    fn extract_in_any_order(
        &mut self,
        is_meant: impl FnMut(&Self::Key, &mut Self::Value) -> bool,
    ) -> impl Iterator<Item = (Self::Key, Self::Value)>;
}

#[expect(clippy::disallowed_methods, reason = "the names say that the order means nothing")]
impl<K, V, S> AnyOrder for HashMap<K, V, S> {
    type Key = K;
    type Value = V;

    fn in_any_order(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.iter()
    }

    fn in_any_order_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.iter_mut()
    }

    fn into_any_order(self) -> impl Iterator<Item = (K, V)> {
        self.into_iter()
    }

    fn retain_in_any_order(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.retain(keep);
    }

    fn extract_in_any_order(
        &mut self,
        is_meant: impl FnMut(&K, &mut V) -> bool,
    ) -> impl Iterator<Item = (K, V)> {
        self.extract_if(is_meant)
    }
}
