//! The BPF objects, as build.rs embeds them.

/// The objects that `build.rs` made; `None` if bpf-linker was missing.
pub struct Objects {
    /// The probes.
    pub probes: Option<&'static [u8]>,
    /// The program of `aiotrace ls`: see [`super::list`].
    pub list: Option<&'static [u8]>,
}

/// The objects that this program has.
pub const OBJECTS: Objects = include!(concat!(env!("OUT_DIR"), "/object.rs"));

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSymbol as _};

    use aiotrace_common::names::{self, Feature};

    use super::*;

    /// The built object has every name that the loader looks up.
    #[test]
    fn the_object_has_every_program_and_map() {
        let Some(bytes) = OBJECTS.probes else {
            assert!(std::env::var_os("AIOTRACE_REQUIRE_EBPF").is_none(), "no object was built");
            eprintln!("not run: aiotrace was built without bpf-linker (cargo xtask setup)");
            return;
        };
        let object = object::File::parse(bytes).expect("the object is an ELF file");
        let has = |name: &str| object.symbol_by_name(name).is_some_and(|it| !it.is_undefined());
        let judges = [names::JUDGES_ALWAYS, names::JUDGES_COUNTING];
        let judges = judges.iter().flat_map(|it| [&it.calls, &it.write, &it.tell]);
        let features = Feature::ALL.into_iter();
        let programs = names::LIFETIME
            .iter()
            .chain(&names::CALLS_BY_TRACEPOINT)
            .chain(&names::CALLS_BY_TRAMPOLINE)
            .chain(names::COMPAT_CALLS_BY_TRAMPOLINE.iter().flatten().flatten())
            .chain(&names::CALLS_BY_KPROBE)
            .chain(names::COMPAT_CALLS_BY_KPROBE.iter().flatten().flatten())
            .chain([&names::UNSEEN_EXITS])
            .chain(judges)
            .chain(&names::SUBMIT_ONE)
            .chain(features.flat_map(|it| it.by_trampoline().iter().chain(it.by_kprobe())));
        for program in programs {
            assert!(has(program.name), "program {}", program.name);
        }
        for name in [names::FMOD_RET, names::OVERRIDE, names::FILE_PERMISSION] {
            assert!(has(name), "program {name}");
        }
        let maps = [
            names::FAULTS,
            names::PULSE,
            names::RECORDS,
            names::SWITCHES,
            names::WATCH,
            names::TARGETS,
            names::THREADS,
            names::TAKEN,
            names::CONTEXTS,
            names::OWNERS,
            names::RING_FILES,
            names::KNOWN_STACKS,
            names::LOST,
            names::CALL_ROWS,
            names::FREE_CALL_ROWS,
            names::CONTEXT_ROWS,
            names::FREE_CONTEXT_ROWS,
            names::CONTEXT_PLACES,
            names::STARTED,
            names::LATENCY_PLACES,
            names::ERRORS,
        ];
        for name in maps.into_iter().chain(names::SCRATCH).chain([names::SETTINGS]) {
            assert!(has(name), "map {name}");
        }
    }

    /// So has the object that lists contexts.
    #[test]
    fn the_object_that_lists_has_its_program_and_maps() {
        let Some(bytes) = OBJECTS.list else {
            assert!(std::env::var_os("AIOTRACE_REQUIRE_EBPF").is_none(), "no object was built");
            return;
        };
        let object = object::File::parse(bytes).expect("the object is an ELF file");
        for name in [names::LIST_CONTEXTS, names::LISTED, names::CURSOR] {
            assert!(object.symbol_by_name(name).is_some_and(|it| !it.is_undefined()), "{name}");
        }
    }
}
