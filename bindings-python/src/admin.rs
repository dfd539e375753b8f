//! The blocking calls underneath `ottla.admin.AdminClient`, which runs them in threads of its own.
//!
//! A result per topic, group or partition is a value or a `KafkaError`; `None` stands for "done".

use crate::{
    configuration::Configuration,
    error::KafkaError,
    metadata::{self, ClusterMetadata, GroupMetadata},
    partition::{list_of, partitions_of},
    waiting::{duration, forked, wait, watch_signals},
};
use ottla::{
    AdminOptions, ConfigChange, ConfigOperation, ConfigResource, ElectionType, Handle,
    ListedOffset, NewTopic, OffsetSpec,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyList},
};

/// Administers a cluster; blocking.
#[pyclass(frozen, module = "ottla")]
pub struct Admin {
    admin: ottla::Admin,
}

/// What became of one topic or group.
type Done = Option<KafkaError>;

fn done(results: Vec<Result<(), ottla::KafkaError>>) -> Vec<Done> {
    results
        .into_iter()
        .map(|result| result.err().map(KafkaError::from))
        .collect()
}

/// Values and errors, one after the other.
fn mixed<'py, T>(
    py: Python<'py>,
    results: Vec<Result<T, ottla::KafkaError>>,
    convert: impl Fn(T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for result in results {
        match result {
            Ok(value) => list.append(convert(value)?)?,
            Err(error) => list.append(KafkaError::from(error))?,
        }
    }
    Ok(list)
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// librdkafka's numbers, which aren't all Kafka's.
fn resource(kind: i32, name: String) -> PyResult<ConfigResource> {
    match kind {
        2 => Ok(ConfigResource::Topic(name)),
        3 => Ok(ConfigResource::Group(name)),
        4 => name
            .parse()
            .map(ConfigResource::Broker)
            .map_err(|_| PyValueError::new_err("a broker's name is its node id")),
        _ => Err(PyValueError::new_err(
            "only topics, groups and brokers have configurations",
        )),
    }
}

impl Admin {
    fn usable(&self) -> PyResult<&ottla::Admin> {
        if self.admin.handle().is_forked() {
            return Err(forked());
        }
        Ok(&self.admin)
    }
}

#[pymethods]
impl Admin {
    #[new]
    #[pyo3(signature = (config=None, /, **kwargs))]
    fn new(
        py: Python<'_>,
        config: Option<&Bound<'_, PyAny>>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let config = Configuration::new(config, kwargs)?.config;
        let admin = wait(py, || ottla::Admin::new(config))?;
        watch_signals(admin.handle());
        Ok(Self { admin })
    }

    /// Topics are (name, partitions, replicas, {config}).
    #[allow(clippy::type_complexity)] // the tuple is told above
    fn create_topics(
        &self,
        py: Python<'_>,
        topics: Vec<(String, i32, i16, Vec<(String, String)>)>,
        validate_only: bool,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let topics: Vec<NewTopic> = topics
            .into_iter()
            .map(
                |(name, num_partitions, replication_factor, config)| NewTopic {
                    name,
                    num_partitions,
                    replication_factor,
                    config,
                    replica_assignments: Vec::new(),
                },
            )
            .collect();
        wait(py, || admin.create_topics(&topics, validate_only, timeout)).map(done)
    }

    fn delete_topics(
        &self,
        py: Python<'_>,
        topics: Vec<String>,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        wait(py, || admin.delete_topics(&borrowed(&topics), timeout)).map(done)
    }

    /// Topics are (name, partitions in all).
    fn create_partitions(
        &self,
        py: Python<'_>,
        topics: Vec<(String, i32)>,
        validate_only: bool,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let topics: Vec<(&str, i32)> = topics.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        wait(py, || {
            admin.create_partitions(&topics, validate_only, timeout)
        })
        .map(done)
    }

    #[pyo3(signature = (topics, timeout))]
    fn list_topics(
        &self,
        py: Python<'_>,
        topics: Option<Vec<String>>,
        timeout: f64,
    ) -> PyResult<ClusterMetadata> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let topics = topics.as_deref().map(borrowed);
        let metadata = wait(py, || admin.metadata(topics.as_deref(), timeout))?;
        metadata::cluster(py, metadata)
    }

    /// (group, state, protocol type, group type) of each group.
    fn list_groups(
        &self,
        py: Python<'_>,
        states: Vec<String>,
        timeout: f64,
    ) -> PyResult<Vec<(String, String, String, String)>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let groups = wait(py, || admin.list_groups(&borrowed(&states), timeout))?;
        Ok(groups
            .into_iter()
            .map(|group| {
                (
                    group.group_id,
                    group.state,
                    group.protocol_type,
                    group.group_type,
                )
            })
            .collect())
    }

    fn describe_groups<'py>(
        &self,
        py: Python<'py>,
        groups: Vec<String>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let groups = wait(py, || admin.describe_groups(&borrowed(&groups), timeout))?;
        mixed(py, groups, |group| {
            let group: GroupMetadata = metadata::group(py, group)?;
            Ok(Bound::new(py, group)?.into_any())
        })
    }

    fn delete_groups(
        &self,
        py: Python<'_>,
        groups: Vec<String>,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        wait(py, || admin.delete_groups(&borrowed(&groups), timeout)).map(done)
    }

    #[pyo3(signature = (group, partitions, require_stable, timeout))]
    fn list_group_offsets<'py>(
        &self,
        py: Python<'py>,
        group: &str,
        partitions: Option<&Bound<'_, PyAny>>,
        require_stable: bool,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(Some(timeout))?;
        let admin = self.usable()?.clone().with_options(AdminOptions {
            require_stable_offsets: require_stable,
            ..AdminOptions::default()
        });
        let partitions = partitions.map(partitions_of).transpose()?;
        list_of(
            py,
            wait(py, || {
                admin.list_group_offsets(group, partitions.as_deref(), timeout)
            })?,
        )
    }

    fn alter_group_offsets<'py>(
        &self,
        py: Python<'py>,
        group: &str,
        offsets: &Bound<'_, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let offsets = partitions_of(offsets)?;
        list_of(
            py,
            wait(py, || admin.alter_group_offsets(group, &offsets, timeout))?,
        )
    }

    fn delete_group_offsets<'py>(
        &self,
        py: Python<'py>,
        group: &str,
        partitions: &Bound<'_, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let partitions = partitions_of(partitions)?;
        list_of(
            py,
            wait(py, || {
                admin.delete_group_offsets(group, &partitions, timeout)
            })?,
        )
    }

    /// The specs are timestamps in ms, or -1 latest, -2 earliest, -3 largest timestamp. Gives (offset, timestamp, leader epoch)
    /// for each.
    fn list_offsets<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'_, PyAny>,
        specs: Vec<i64>,
        read_committed: bool,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(Some(timeout))?;
        let admin = self.usable()?.clone().with_options(AdminOptions {
            read_committed,
            ..AdminOptions::default()
        });
        let spec = |spec| match spec {
            -1 => OffsetSpec::Latest,
            -2 => OffsetSpec::Earliest,
            -3 => OffsetSpec::MaxTimestamp,
            timestamp => OffsetSpec::Timestamp(timestamp),
        };
        let specs = specs.into_iter().map(spec);
        let wanted: Vec<_> = partitions_of(partitions)?.into_iter().zip(specs).collect();
        let listed = wait(py, || admin.list_offsets(&wanted, timeout))?;
        mixed(py, listed, |listed: ListedOffset| {
            let listed = (listed.offset, listed.timestamp, listed.leader_epoch);
            Ok(listed.into_pyobject(py)?.into_any())
        })
    }

    /// Resources are (2 topic, 3 group or 4 broker, name). Gives [(name, value, source, is_read_only, is_sensitive)] for each.
    fn describe_configs<'py>(
        &self,
        py: Python<'py>,
        resources: Vec<(i32, String)>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let resources = resources
            .into_iter()
            .map(|(kind, name)| resource(kind, name));
        let resources = resources.collect::<PyResult<Vec<_>>>()?;
        let described = wait(py, || admin.describe_configs(&resources, timeout))?;
        mixed(py, described, |entries| {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|entry| {
                    (
                        entry.name,
                        entry.value,
                        entry.source,
                        entry.is_read_only,
                        entry.is_sensitive,
                    )
                })
                .collect();
            Ok(entries.into_pyobject(py)?.into_any())
        })
    }

    /// Resources are (2 topic, 3 group or 4 broker, name, [(setting, value)]).
    #[allow(clippy::type_complexity)] // the tuple is told above
    fn alter_configs(
        &self,
        py: Python<'_>,
        resources: Vec<(i32, String, Vec<(String, String)>)>,
        validate_only: bool,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let resources = resources
            .into_iter()
            .map(|(kind, name, settings)| Ok((resource(kind, name)?, settings)))
            .collect::<PyResult<Vec<_>>>()?;
        wait(py, || {
            admin.alter_configs(&resources, validate_only, timeout)
        })
        .map(done)
    }

    /// Resources are (2 topic, 3 group or 4 broker, name, [(setting, 0 set, 1 delete, 2 append or 3 subtract, value)]).
    #[allow(clippy::type_complexity)] // the tuple is told above
    fn incremental_alter_configs(
        &self,
        py: Python<'_>,
        resources: Vec<(i32, String, Vec<(String, i32, Option<String>)>)>,
        validate_only: bool,
        timeout: f64,
    ) -> PyResult<Vec<Done>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let change = |(name, operation, value)| {
            let operation = match operation {
                0 => ConfigOperation::Set,
                1 => ConfigOperation::Delete,
                2 => ConfigOperation::Append,
                3 => ConfigOperation::Subtract,
                _ => return Err(PyValueError::new_err("no such operation")),
            };
            Ok(ConfigChange {
                name,
                operation,
                value,
            })
        };
        let resources = resources
            .into_iter()
            .map(|(kind, name, changes)| {
                let changes = changes.into_iter().map(change);
                Ok((resource(kind, name)?, changes.collect::<PyResult<_>>()?))
            })
            .collect::<PyResult<Vec<_>>>()?;
        wait(py, || {
            admin.incremental_alter_configs(&resources, validate_only, timeout)
        })
        .map(done)
    }

    /// Gives the partitions with their first offset then, or their error.
    fn delete_records<'py>(
        &self,
        py: Python<'py>,
        before: &Bound<'_, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let before = partitions_of(before)?;
        list_of(py, wait(py, || admin.delete_records(&before, timeout))?)
    }

    /// Gives (topic, partition, error) of each.
    #[pyo3(signature = (unclean, partitions, timeout))]
    fn elect_leaders(
        &self,
        py: Python<'_>,
        unclean: bool,
        partitions: Option<&Bound<'_, PyAny>>,
        timeout: f64,
    ) -> PyResult<Vec<(String, i32, Done)>> {
        let (admin, timeout) = (self.usable()?, duration(Some(timeout))?);
        let partitions = partitions.map(partitions_of).transpose()?;
        let kind = if unclean {
            ElectionType::Unclean
        } else {
            ElectionType::Preferred
        };
        let elected = wait(py, || {
            admin.elect_leaders(kind, partitions.as_deref(), timeout)
        })?;
        Ok(elected
            .into_iter()
            .map(|(topic, partition, result)| {
                let error = result.err().map(KafkaError::from);
                (topic.to_string(), partition, error)
            })
            .collect())
    }

    fn cluster_id(&self, py: Python<'_>, timeout: f64) -> PyResult<String> {
        let (handle, timeout): (&Handle, _) = (self.usable()?.handle(), duration(Some(timeout))?);
        Ok(wait(py, || handle.cluster_id(timeout))?.to_string())
    }
}
