//! Names, accelerators, and what must hold for any two models.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::cpu::s390x::{HostModel, Identity, MachineProps, definitions, feature, named};

/// A host of this definition that has all its machine may have.
fn host(accelerator: &str, name: &str) -> Host {
    let definition = named(name).unwrap().definition;
    Host {
        accelerator: accelerator.to_owned(),
        kind: HostKind::Hardware,
        model: Some(HostModel {
            definition,
            features: definition.full,
            identity: Identity::default(),
        }),
    }
}

fn argument(name: &str) -> ModelArgument<'_> {
    ModelArgument {
        name,
        props: None,
        argument: "model",
    }
}

#[test]
fn every_name_resolves_wherever_a_model_is_named() {
    let host = host("kvm", "gen16a");
    let cpus = Cpus::new(Compat::newest(), Some(&host));
    for definition in definitions() {
        for alias in definition.aliases() {
            let place = format!("{alias} for {}", definition.name);
            let expanded = |name| cpus.expand(Expansion::Full, argument(name)).unwrap();
            assert_eq!(expanded(alias), expanded(definition.name), "{place}");
            assert_eq!(
                cpus.parse(Some(alias)).unwrap().typename(),
                definition.typename,
                "{place}"
            );
            let compared = cpus.compare(argument(alias), argument(definition.name)).unwrap();
            assert_eq!(compared.result, CompareResult::Identical, "{place}");
        }
    }
    let props = json!({"vx": 1});
    let wrong = ModelArgument {
        props: Some(&props),
        ..argument("2964-ga1")
    };
    let error = cpus.expand(Expansion::Static, wrong).unwrap_err().to_string();
    assert_eq!(error, "Invalid parameter type for 'model.props.vx', expected: boolean");
}

#[test]
fn a_client_of_2015_finds_its_names_and_a_client_of_today_its_own() {
    let probed = [host("kvm", "z13"), host("hostfile", "z196.2")];
    let list = Cpus::new(Compat::newest(), Some(&probed[0])).definitions(&probed);
    let find = |name: &str| list.iter().find(|info| info.name == name).unwrap();
    let seed = find("2964-ga1");
    assert_eq!((seed.alias_of, seed.typename), (Some("z13"), "z13-s390x-cpu"));
    let says = |info: &DefinitionInfo| -> Vec<(String, bool, bool)> {
        let accelerators = info.accelerators.iter();
        accelerators
            .map(|info| (info.name.clone(), info.runnable, info.default))
            .collect()
    };
    assert_eq!(
        says(seed),
        [("kvm".to_owned(), true, true), ("hostfile".to_owned(), false, false)]
    );
    assert_eq!(
        says(find("z13")),
        [("kvm".to_owned(), true, false), ("hostfile".to_owned(), false, false)]
    );
    assert_eq!(
        says(find("2817-ga2")),
        [("kvm".to_owned(), true, false), ("hostfile".to_owned(), true, true)]
    );
    assert_eq!(find("z13").alias_of, None);
    let mut names: Vec<&str> = list.iter().map(|info| info.name).collect();
    assert_eq!(names.len(), 3 + 80 + 43);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3 + 80 + 43, "a name is there twice");
}

#[test]
fn host_and_max_need_a_host() {
    let no_kvm = Cpus {
        kvm_built_in: false,
        ..Cpus::new(Compat::newest(), None)
    };
    let error = |cpus: &Cpus<'_>, name| cpus.named(name).unwrap_err().to_string();
    assert_eq!(error(&no_kvm, "host"), "The CPU definition 'host' is unknown.");
    assert_eq!(
        no_kvm.parse(Some("host")).unwrap_err().to_string(),
        "unable to find CPU model 'host'"
    );
    let no_accelerator = Cpus {
        kvm_built_in: true,
        ..no_kvm
    };
    assert_eq!(error(&no_accelerator, "host"), "The CPU definition 'host' requires KVM");
    let mute = Host {
        model: None,
        ..host("kvm", "z13")
    };
    let old_kernel = Cpus::new(Compat::newest(), Some(&mute));
    for name in ["host", "max"] {
        assert_eq!(
            error(&old_kernel, name),
            "Details about the host CPU model are not available, it cannot be used."
        );
    }
    assert!(!cpu_desc_avail(std::slice::from_ref(&mute)));
    assert!(cpu_desc_avail(&[]) && cpu_desc_avail(&[mute.clone(), host("kvm", "z13")]));
    let listed = old_kernel.definitions(std::slice::from_ref(&mute));
    assert!(
        listed
            .iter()
            .all(|info| info.unavailable_features.is_none() && info.accelerators.is_empty())
    );
    assert!(listed.iter().any(|info| info.name == "host"));
}

#[test]
fn the_default_model_follows_the_accelerator() {
    let kvm = host("kvm", "z13");
    assert_eq!(
        Cpus::new(Compat::newest(), Some(&kvm)).default_cpu_type(),
        "host-s390x-cpu"
    );
    let emulated = Host {
        kind: HostKind::Emulated,
        ..kvm
    };
    let cpus = Cpus::new(Compat::newest(), Some(&emulated));
    assert_eq!(cpus.default_cpu_type(), "qemu-s390x-cpu");
    assert_eq!(cpus.parse(None).unwrap().name(), "qemu");
    assert_eq!(cpus.query_cpu_model(&cpus.parse(None).unwrap()), "8561-ga1");
}

#[test]
fn a_host_held_above_a_models_level_does_not_run_it() {
    let mut host = host("kvm", "gen16a");
    if let Some(model) = &mut host.model {
        model.identity.lowest_ibc = 0x041;
        model.identity.unblocked_ibc = 0x061;
    }
    let list = Cpus::new(Compat::newest(), Some(&host)).definitions(std::slice::from_ref(&host));
    let runs = |name| list.iter().find(|info| info.name == name).unwrap().accelerators[0].runnable;
    assert!(!runs("z13-base") && runs("z14-base") && runs("z9EC-base"));
}

#[test]
fn each_accelerator_says_what_it_runs() {
    let probed = [
        Host {
            model: None,
            ..host("kvm", "z13")
        },
        host("old", "z13"),
        Host {
            kind: HostKind::Emulated,
            ..host("new", "gen16a")
        },
    ];
    let list = Cpus::new(Compat::newest(), probed.first()).definitions(&probed);
    let told = |name| {
        let info = list.iter().find(|info| info.name == name).unwrap();
        let accelerators = info.accelerators.iter();
        accelerators
            .map(|entry| (entry.name.as_str(), entry.runnable, entry.default))
            .collect::<Vec<_>>()
    };
    assert_eq!(told("z13"), [("old", true, false), ("new", true, false)]);
    assert_eq!(told("2964-ga1"), [("old", true, true), ("new", true, false)]);
    assert_eq!(told("z14"), [("old", false, false), ("new", true, false)]);
    assert_eq!(told("3931-ga1"), [("old", false, false), ("new", true, true)]);
    assert_eq!(told("max"), [("old", true, false), ("new", true, false)]);
    assert_eq!(told("host"), [("old", true, false), ("new", false, false)]);
}

/// A model by a random definition with random switches, none of which it refuses.
fn any_model() -> impl Strategy<Value = Model> {
    let names = FeatureSet::all().iter().map(|id| id.name()).collect::<Vec<_>>();
    let switches = prop::collection::vec((prop::sample::select(names), any::<bool>()), 0..30);
    (0..definitions().len(), any::<bool>(), switches).prop_map(|(place, base, switches)| {
        let cpus = Cpus::new(Compat::newest(), None);
        let variant = if base { Variant::Base } else { Variant::Default };
        let mut model = cpus.start(&definitions()[place], variant);
        for (name, on) in switches {
            // What came with later machines stays off.
            let _ = model.switch(name, on);
        }
        model
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_static_expansion_names_the_same_model(model in any_model()) {
        for kind in [Expansion::Static, Expansion::Full] {
            let info = expand(&model, kind).model;
            let props: Map<String, Value> = info.props.iter().map(|(name, on)| ((*name).to_owned(), json!(on))).collect();
            let mut again = Cpus::new(Compat::newest(), None).named(info.name).unwrap();
            for (name, on) in &info.props {
                // A full expansion spells out what is too new as off.
                prop_assert!(again.switch(name, *on).is_ok(), "{} {}", info.name, name);
            }
            prop_assert_eq!(again.features, model.features);
            prop_assert_eq!(props.len(), info.props.len());
        }
    }

    #[test]
    fn a_baseline_is_covered_by_both(a in any_model(), b in any_model()) {
        let Ok(common) = baseline(&a, &b) else {
            return Ok(());
        };
        for model in [&a, &b] {
            prop_assert!(common.features.is_subset(&model.features));
            let result = compare(&common, model).result;
            prop_assert!(matches!(result, CompareResult::Subset | CompareResult::Identical), "{:?}", result);
        }
    }

    #[test]
    fn what_the_kernel_is_told_is_the_model(model in any_model()) {
        let identity = Identity { version: 0xff, serial: 0x12_3456, format: true, lowest_ibc: 1, unblocked_ibc: 0x071 };
        let told = model.processor_props(&identity);
        let machine = MachineProps {
            cpuid: told.cpuid,
            ibc: 1 << 16 | u32::from(told.ibc),
            fac_mask: told.fac_list.clone(),
            feat: told.feat,
            subfunctions: told.subfunctions.clone(),
            uv_feat: told.uv_feat,
            cmma: told.cmma,
            apie: told.apie,
            capabilities: feature::Capability::ALL.into_iter().map(|(capability, _)| capability).collect(),
            ..MachineProps::default()
        };
        let seen = machine.host_model().unwrap();
        let definition = model.definition;
        // Machines before the z10 tell no GA; an entry behind a newer one of its generation is not found, see `lookup`.
        let found = definition.ibc != 0 && definition.name != "z14ZR1";
        prop_assert!(std::ptr::eq(seen.definition, definition) || !found);
        for id in FeatureSet::all().iter() {
            let carried = !matches!(id.entry().origin, feature::Origin::None | feature::Origin::Derived
                | feature::Origin::Userspace | feature::Origin::Capability(_));
            let unlocked = match id.entry().kind {
                // The code that asks for the others is always there.
                feature::Indicator::Function { block, code: 0 } if feature::blocks()[block].unlocked_by.is_some() => false,
                feature::Indicator::Function { block, .. } => {
                    feature::blocks()[block].unlocked_by.is_none_or(|key| model.features.contains(key))
                }
                feature::Indicator::Ultravisor(_) => told.apie,
                _ => true,
            };
            let needs_epoch = id.name().starts_with("ptff-") && !model.features.has("mepoch");
            let needs_cmma = id.name() == "cmmnt" && !told.cmma;
            if carried && unlocked && !needs_epoch && !needs_cmma && std::ptr::eq(seen.definition, model.definition) {
                prop_assert_eq!(seen.features.contains(id), model.features.contains(id), "{}", id.name());
            }
        }
    }
}
