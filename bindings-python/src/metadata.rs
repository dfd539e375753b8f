//! What `list_topics` and `list_groups` tell about a cluster.

use crate::error::KafkaError;
use ottla::ErrCode;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

/// Brokers and topics of a cluster.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct ClusterMetadata {
    cluster_id: Option<String>,
    controller_id: i32,
    brokers: Py<PyDict>,
    topics: Py<PyDict>,
    orig_broker_id: i32,
    orig_broker_name: Option<String>,
}

/// A broker.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct BrokerMetadata {
    id: i32,
    host: String,
    port: i32,
}

/// A topic.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct TopicMetadata {
    topic: String,
    partitions: Py<PyDict>,
    error: Option<KafkaError>,
}

/// A partition.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct PartitionMetadata {
    id: i32,
    leader: i32,
    replicas: Vec<i32>,
    isrs: Vec<i32>,
    error: Option<KafkaError>,
}

/// A group.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct GroupMetadata {
    broker: Py<BrokerMetadata>,
    id: String,
    error: Option<KafkaError>,
    group_type: String,
    state: String,
    protocol_type: String,
    protocol: String,
    members: Vec<Py<GroupMember>>,
}

/// A member of a group.
#[pyclass(frozen, get_all, module = "ottla.admin")]
pub struct GroupMember {
    id: String,
    client_id: String,
    client_host: String,
    metadata: Py<PyBytes>,
    assignment: Py<PyBytes>,
    target_assignment: Option<Py<PyBytes>>,
    group_instance_id: Option<String>,
}

fn error_of(code: ErrCode) -> Option<KafkaError> {
    KafkaError::of_code(code)
}

fn with_error(text: String, error: Option<&KafkaError>) -> String {
    match error {
        Some(error) => format!("{text}, {})", error.inner().code),
        None => format!("{text})"),
    }
}

#[pymethods]
impl ClusterMetadata {
    fn __repr__(&self) -> String {
        let id = self.cluster_id.as_deref().unwrap_or("None");
        format!("ClusterMetadata({id})")
    }
    fn __str__(&self) -> String {
        self.cluster_id.clone().unwrap_or("None".to_owned())
    }
}

#[pymethods]
impl BrokerMetadata {
    fn __repr__(&self) -> String {
        format!("BrokerMetadata({}, {}:{})", self.id, self.host, self.port)
    }
    fn __str__(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.id)
    }
}

#[pymethods]
impl TopicMetadata {
    fn __repr__(&self, py: Python<'_>) -> String {
        let partitions = self.partitions.bind(py).len();
        let text = format!("TopicMetadata({}, {partitions} partitions", self.topic);
        with_error(text, self.error.as_ref())
    }
    fn __str__(&self) -> &str {
        &self.topic
    }
}

#[pymethods]
impl PartitionMetadata {
    fn __repr__(&self) -> String {
        with_error(
            format!("PartitionMetadata({}", self.id),
            self.error.as_ref(),
        )
    }
    fn __str__(&self) -> String {
        self.id.to_string()
    }
}

#[pymethods]
impl GroupMetadata {
    fn __repr__(&self) -> String {
        with_error(format!("GroupMetadata({}", self.id), self.error.as_ref())
    }
    fn __str__(&self) -> &str {
        &self.id
    }
}

impl BrokerMetadata {
    fn new(broker: ottla::BrokerInfo) -> Self {
        Self {
            id: broker.id,
            host: broker.host.to_string(),
            port: broker.port,
        }
    }
}

/// Python's form of what the façade tells.
pub fn cluster(py: Python<'_>, metadata: ottla::Metadata) -> PyResult<ClusterMetadata> {
    let brokers = PyDict::new(py);
    for broker in metadata.brokers {
        brokers.set_item(broker.id, Py::new(py, BrokerMetadata::new(broker))?)?;
    }
    let topics = PyDict::new(py);
    for topic in metadata.topics {
        let partitions = PyDict::new(py);
        for partition in topic.partitions {
            let partition = PartitionMetadata {
                id: partition.id,
                leader: partition.leader,
                replicas: partition.replicas,
                isrs: partition.isrs,
                error: error_of(partition.error),
            };
            partitions.set_item(partition.id, Py::new(py, partition)?)?;
        }
        let name = topic.name.to_string();
        let topic = TopicMetadata {
            topic: name.clone(),
            partitions: partitions.unbind(),
            error: error_of(topic.error),
        };
        topics.set_item(name, Py::new(py, topic)?)?;
    }
    Ok(ClusterMetadata {
        cluster_id: metadata.cluster_id.map(|id| id.to_string()),
        controller_id: metadata.controller_id,
        brokers: brokers.unbind(),
        topics: topics.unbind(),
        orig_broker_id: metadata.orig_broker_id,
        orig_broker_name: Some(metadata.orig_broker_name),
    })
}

/// Python's form of a group.
pub fn group(py: Python<'_>, group: ottla::GroupInfo) -> PyResult<GroupMetadata> {
    let member = |member: ottla::GroupMember| {
        let member = GroupMember {
            id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            metadata: PyBytes::new(py, &member.metadata).unbind(),
            assignment: PyBytes::new(py, &member.assignment).unbind(),
            target_assignment: member
                .target_assignment
                .map(|bytes| PyBytes::new(py, &bytes).unbind()),
            group_instance_id: member.group_instance_id.map(|id| id.to_string()),
        };
        Py::new(py, member)
    };
    Ok(GroupMetadata {
        broker: Py::new(py, BrokerMetadata::new(group.broker))?,
        id: group.group.to_string(),
        error: error_of(group.error),
        group_type: group.group_type.name().to_owned(),
        state: group.state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        protocol: group.protocol.to_string(),
        members: group
            .members
            .into_iter()
            .map(member)
            .collect::<PyResult<_>>()?,
    })
}

/// The classes.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ClusterMetadata>()?;
    module.add_class::<BrokerMetadata>()?;
    module.add_class::<TopicMetadata>()?;
    module.add_class::<PartitionMetadata>()?;
    module.add_class::<GroupMetadata>()?;
    module.add_class::<GroupMember>()
}
