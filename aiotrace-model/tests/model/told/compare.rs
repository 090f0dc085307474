//! Compares the model with what it must know, and its findings with those that must be made.

use super::*;

impl Told {
    pub fn judge(&mut self) {
        while let Some(it) = self.model.next_finding() {
            self.judge_one(&it);
            self.found.push(it);
        }
    }

    fn judge_one(&self, it: &Finding) {
        if it.severity < Severity::Warning {
            return;
        }
        let spaces = self.spaces.get(&it.pid).cloned().unwrap_or_default();
        if spaces.iter().all(|space| !self.lossy.contains_key(space)) {
            let what = (it.name, it.severity, it.pid);
            assert!(self.allowed.contains(&what), "not expected: {it:?}\n{:?}", self.allowed);
        }
        if it.severity < Severity::Error || it.name == Name::SetupDenied {
            return; // That io_setup was denied is a fact.
        }
        let told = |space| self.lossy.get(space).copied().flatten();
        if let Some(told) = spaces.iter().map(told).collect::<Option<Vec<_>>>() {
            assert!(told.iter().any(|told| it.time <= *told), "an error after a loss: {it:?}");
        }
        let Some(context) = it.context.filter(|_| it.name == Name::DiscardedRequests) else {
            return;
        };
        let ended = (it.pid, context.handle, it.time);
        // If two contexts had a handle, the finding may be about the other one.
        let is_one = self.ends.iter().filter(|it| **it == ended).count() == 1;
        assert!(!(is_one && self.doubtful.contains(&ended)), "completions were lost: {it:?}");
    }

    /// The row that the report should have.
    pub fn row(&self, kernel: &Kernel, ctx: Ctx) -> Row {
        let (context, view) = (&kernel.contexts[ctx], &self.views[ctx]);
        let count = |is: fn(&&Request) -> bool| context.requests.iter().filter(is).count() as u64;
        let in_flight = count(|it| it.returned && !it.told).saturating_sub(view.unseen as u64);
        let done = count(|it| it.returned && it.told);
        // The process of the context may have reaped the rest without a call.
        let is_known = !matches!(view.gone, Some(How::Exit | How::Exec));
        let unreaped = view.told.saturating_sub(view.reaped) as u64;
        let unreaped = Some(unreaped).filter(|it| is_known || *it == 0);
        (view.pid, context.handle, Some(u64::from(context.asked)), in_flight, done, unreaped)
    }

    /// Whether nothing was lost of the context's address space.
    fn is_clean(&self, kernel: &Kernel, ctx: Ctx) -> bool {
        !self.lossy.contains_key(&kernel.contexts[ctx].space)
    }

    /// Compares the model with the reference, wherever nothing was lost.
    pub fn compare(&self, kernel: &Kernel) {
        let report = self.model.report();
        assert_eq!((report.evicted, report.others.is_none()), (0, true));
        assert!(report.disagreements.is_empty(), "{:?} {:?}", report.disagreements, report.sums);
        let dirty: BTreeSet<u32> = self
            .spaces
            .iter()
            .filter(|(_, of)| of.iter().any(|it| self.lossy.contains_key(it)))
            .map(|(pid, _)| *pid)
            .collect();
        let mut is: Vec<(Option<How>, Row)> = Vec::new();
        let mut leaked: Vec<Row> = Vec::new();
        for it in report.contexts.iter().filter(|it| !dirty.contains(&it.pid)) {
            let handle = it.context.handle;
            self.compare_peak(kernel, (it.pid, handle), it.peak);
            let row = (it.pid, handle, it.asked, it.in_flight, it.done.requests, it.unreaped);
            match it.end {
                None => is.push((None, row)),
                Some(End::Destroyed) => is.push((Some(How::Destroy), row)),
                Some(End::Exit) => is.push((Some(How::Exit), row)),
                Some(End::Exec) => is.push((Some(How::Exec), row)),
                Some(End::Leaked) => leaked.push(row),
            }
        }
        let mut ought: Vec<(Option<How>, Row)> = (0..self.views.len())
            .filter(|it| self.is_clean(kernel, *it) && !dirty.contains(&self.views[*it].pid))
            .map(|it| {
                let view = &self.views[it];
                (view.gone.filter(|_| view.is_over), self.row(kernel, it))
            })
            .collect();
        // A context that was reported as leaked stays so until its process ends, and after; the source reports its
        // end.
        let what = |it: &Row| (it.0, it.1, it.2, it.3, it.4);
        for row in &leaked {
            let is_it = |it: &Row| what(it) == what(row);
            let of = |all: &[(Option<How>, Row)]| all.iter().filter(|it| is_it(&it.1)).count();
            let count = leaked.iter().filter(|it| is_it(it)).count();
            assert_eq!(of(&is) + count, of(&ought), "{row:?}");
        }
        let is_kept = |it: &(Option<How>, Row)| !leaked.iter().any(|row| what(row) == what(&it.1));
        is.retain(is_kept);
        ought.retain(is_kept);
        let key = |it: &(Option<How>, Row)| (it.0.map(|how| how as u8), it.1);
        is.sort_by_key(key);
        ought.sort_by_key(key);
        assert_eq!(is, ought, "the model (left) and the reference (right)");
    }

    /// How many were in flight at a time, of a context that is the only one of its process and handle.
    fn compare_peak(&self, kernel: &Kernel, (pid, handle): (u32, Handle), peak: Peak) {
        let is_it = |it: &Ctx| (self.views[*it].pid, kernel.contexts[*it].handle) == (pid, handle);
        let all: Vec<Ctx> = (0..self.views.len()).filter(is_it).collect();
        let [ctx] = all[..] else { return };
        let context = &kernel.contexts[ctx];
        // Of an adopted context, only a number that is a bound is about what came before the attach, too.
        let is_whole = !self.views[ctx].adopted || peak.bound() == Bound::AtLeast;
        if !is_whole || context.requests.iter().any(|it| !it.returned) {
            return;
        }
        let (is, ought) = (peak.number(), context.peak as u64);
        let is_right = match peak.bound() {
            Bound::Exact => is == ought,
            Bound::AtMost => is >= ought,
            Bound::AtLeast => is <= ought,
        };
        assert!(is_right, "{peak:?}, and it was {ought}");
    }

    /// The trace is over: what had to be found, and was or was not.
    pub fn finish(&mut self) {
        self.model.finish(self.now);
        self.judge();
        for (name, severity, pid) in &self.required {
            let of = self.spaces.get(pid).cloned().unwrap_or_default();
            let is_clean = of.iter().all(|it| !self.lossy.contains_key(it));
            let is_it =
                |it: &&Finding| it.name == *name && it.pid == *pid && it.severity >= *severity;
            let found = self.found.iter().any(|it| is_it(&it));
            assert!(found || !is_clean, "{name:?} {severity:?} of {pid} was not found");
        }
    }
}
