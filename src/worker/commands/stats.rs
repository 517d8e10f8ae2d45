//! `query-stats` and `query-stats-schemas`: what the accelerator counts, in the schema's types.

use crate::accel::{Stat, StatKind, StatUnit, StatValue};
use crate::machine::guest::Guest;
use crate::qapi::Error;
use crate::qapi::qmp::{
    QueryStatsSchemasArgs, Stats, StatsFilter, StatsFilterVariant, StatsProvider, StatsRequest, StatsResult,
    StatsSchema, StatsSchemaValue, StatsTarget, StatsType, StatsUnit, StatsValue,
};

/// The values a client asked for.
///
/// # Errors
/// The accelerator keeps no statistics.
pub(super) fn query(guest: &dyn Guest, filter: &StatsFilter) -> Result<Vec<StatsResult>, Error> {
    let Some(names) = wanted(filter.providers.as_deref()) else {
        return Ok(Vec::new());
    };
    let result = |qom_path, values: Vec<StatValue>| StatsResult {
        provider: StatsProvider::Kvm,
        qom_path,
        stats: values
            .into_iter()
            .filter(|value| names.accept(&value.stat.name))
            .map(named)
            .collect(),
    };
    match &filter.variant {
        StatsFilterVariant::Vm => Ok(vec![result(None, guest.vm_stats()?)]),
        StatsFilterVariant::Vcpu(vcpus) => {
            let paths = guest.vcpus().into_iter().map(|vcpu| vcpu.qom_path);
            let all = paths.zip(guest.vcpu_stats()?);
            let chosen = all.filter(|(path, _)| vcpus.vcpus.as_ref().is_none_or(|wanted| wanted.contains(path)));
            Ok(chosen.map(|(path, values)| result(Some(path), values)).collect())
        }
    }
}

/// What the values mean.
///
/// # Errors
/// The accelerator keeps no statistics.
pub(super) fn schemas(guest: &dyn Guest, _: &QueryStatsSchemasArgs) -> Result<Vec<StatsSchema>, Error> {
    let schema = |target, values: Vec<StatValue>| StatsSchema {
        provider: StatsProvider::Kvm,
        target,
        stats: values.into_iter().map(|value| meaning(value.stat)).collect(),
    };
    let vcpu = guest.vcpu_stats()?.into_iter().next().unwrap_or_default();
    Ok(vec![
        schema(StatsTarget::Vm, guest.vm_stats()?),
        schema(StatsTarget::Vcpu, vcpu),
    ])
}

/// Which names of the one provider there is are wanted.
enum Names<'a> {
    All,
    These(&'a [String]),
}

impl Names<'_> {
    fn accept(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

/// `None` if the client wants nothing of KVM.
fn wanted(providers: Option<&[StatsRequest]>) -> Option<Names<'_>> {
    let Some(providers) = providers else {
        return Some(Names::All);
    };
    let kvm = providers
        .iter()
        .find(|request| request.provider == StatsProvider::Kvm)?;
    Some(kvm.names.as_deref().map_or(Names::All, Names::These))
}

fn named(value: StatValue) -> Stats {
    let histogram = matches!(
        value.stat.kind,
        StatKind::LinearHistogram { .. } | StatKind::Log2Histogram
    );
    let number = match (histogram, value.values.first()) {
        (false, Some(number)) if value.stat.unit == StatUnit::Boolean => StatsValue::Boolean(*number != 0),
        (false, Some(number)) => StatsValue::Scalar(*number),
        _ => StatsValue::List(value.values),
    };
    Stats {
        name: value.stat.name,
        value: number,
    }
}

fn meaning(stat: Stat) -> StatsSchemaValue {
    let (r#type, bucket_size) = match stat.kind {
        StatKind::Cumulative => (StatsType::Cumulative, None),
        StatKind::Instant => (StatsType::Instant, None),
        StatKind::Peak => (StatsType::Peak, None),
        StatKind::LinearHistogram { bucket_size } => (StatsType::LinearHistogram, Some(bucket_size)),
        StatKind::Log2Histogram => (StatsType::Log2Histogram, None),
    };
    let unit = match stat.unit {
        StatUnit::None => None,
        StatUnit::Bytes => Some(StatsUnit::Bytes),
        StatUnit::Seconds => Some(StatsUnit::Seconds),
        StatUnit::Cycles => Some(StatsUnit::Cycles),
        StatUnit::Boolean => Some(StatsUnit::Boolean),
    };
    // The base says nothing where the exponent is zero.
    let base = (stat.exponent != 0).then(|| i8::try_from(stat.base).unwrap_or(10));
    StatsSchemaValue {
        name: stat.name,
        r#type,
        unit,
        base,
        exponent: stat.exponent,
        bucket_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(kind: StatKind, unit: StatUnit, exponent: i16, values: &[u64]) -> StatValue {
        let stat = Stat {
            name: "n".into(),
            kind,
            unit,
            base: 10,
            exponent,
        };
        StatValue {
            stat,
            values: values.to_vec(),
        }
    }

    #[test]
    fn numbers_truth_values_and_histograms_are_told_apart() {
        let cases = [
            (
                stat(StatKind::Cumulative, StatUnit::None, 0, &[7]),
                StatsValue::Scalar(7),
            ),
            (
                stat(StatKind::Instant, StatUnit::Boolean, 0, &[1]),
                StatsValue::Boolean(true),
            ),
            (
                stat(StatKind::Log2Histogram, StatUnit::Seconds, -9, &[1]),
                StatsValue::List(vec![1]),
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(named(value).value, expected);
        }
    }

    #[test]
    fn a_base_is_told_only_with_an_exponent() {
        let nanoseconds = meaning(stat(StatKind::Cumulative, StatUnit::Seconds, -9, &[]).stat);
        assert_eq!((nanoseconds.base, nanoseconds.exponent), (Some(10), -9));
        assert_eq!(meaning(stat(StatKind::Instant, StatUnit::None, 0, &[]).stat).base, None);
    }

    #[test]
    fn a_client_may_want_nothing_of_kvm() {
        assert!(wanted(Some(&[])).is_none());
        let request = StatsRequest {
            provider: StatsProvider::Kvm,
            names: Some(vec!["a".into()]),
        };
        let names = [request];
        let names = wanted(Some(&names)).unwrap();
        assert!(names.accept("a") && !names.accept("b"));
    }
}
