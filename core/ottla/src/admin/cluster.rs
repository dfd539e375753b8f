//! The cluster and its settings.

use super::{Admin, told};
use crate::{BrokerInfo, KafkaError, Route, Str, handle::unexpected};
use ottla_protocol::{
    Request, Response,
    messages::{
        DescribeClusterRequest, DescribeConfigsRequest,
        alter_configs::{self, AlterConfigsRequest},
        describe_configs::DescribeConfigsResource,
        incremental_alter_configs::{self, IncrementalAlterConfigsRequest},
    },
};
use std::time::Duration;

/// An answer of [`Admin::describe_cluster`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: Str,
    /// The controller's node id, or -1.
    pub controller_id: i32,
    /// The brokers.
    pub nodes: Vec<BrokerInfo>,
    /// Bits of Kafka's `AclOperation` numbers; `i32::MIN` if they weren't asked for.
    pub authorized_operations: i32,
}

/// One setting of a broker or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Kafka's number of where the value comes from: 1 the topic, 4 the broker's file, 5 default.
    pub source: i8,
    /// It can't be changed.
    pub is_read_only: bool,
    /// It is a secret; the value is not told.
    pub is_sensitive: bool,
    /// Where the value could come from, what counts most first: the name there, the value, and its source's number.
    pub synonyms: Vec<(String, Option<String>, i8)>,
}

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// A broker by node id.
    Broker(i32),
    /// All brokers that have no value of their own.
    AllBrokers,
    /// A consumer or share group.
    Group(String),
}

impl ConfigResource {
    /// Kafka's number of its kind, and its name.
    fn parts(&self) -> (i8, Str) {
        match self {
            Self::Topic(name) => (2, name.as_str().into()),
            Self::Broker(node) => (4, node.to_string().into()),
            Self::AllBrokers => (4, Str::new()),
            Self::Group(name) => (32, name.as_str().into()),
        }
    }
}

/// A change of one setting, for [`Admin::incremental_alter_configs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Its name.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
    /// The value; [`ConfigOperation::Delete`] has none.
    pub value: Option<String>,
}

/// What a [`ConfigChange`] does; the numbers are Kafka's (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Sets the value.
    Set = 0,
    /// Goes back to the default.
    Delete = 1,
    /// Adds entries, separated by commas, to a list.
    Append = 2,
    /// Takes entries out of a list.
    Subtract = 3,
}

/// The cluster.
impl Admin {
    /// The cluster's id, brokers and controller.
    pub fn describe_cluster(&self, timeout: Duration) -> Result<ClusterDescription, KafkaError> {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: self.options.authorized_operations,
            ..Default::default()
        };
        let route = self.route(Route::Any);
        let response = self
            .handle
            .request(route, Request::DescribeCluster(request), timeout)?;
        let Response::DescribeCluster(response) = response else {
            return Err(unexpected(&response));
        };
        told(response.error_code, response.error_message.as_ref())?;
        Ok(ClusterDescription {
            cluster_id: response.cluster_id,
            controller_id: response.controller_id,
            nodes: response
                .brokers
                .into_iter()
                .map(|broker| BrokerInfo {
                    id: broker.broker_id,
                    host: broker.host,
                    port: broker.port,
                    rack: broker.rack,
                })
                .collect(),
            authorized_operations: response.cluster_authorized_operations,
        })
    }

    /// Settings of topics, brokers and groups.
    pub fn describe_configs(
        &self,
        resources: &[ConfigResource],
        timeout: Duration,
    ) -> Result<Vec<Result<Vec<ConfigEntry>, KafkaError>>, KafkaError> {
        let resource = |resource: &ConfigResource| {
            let (resource_type, resource_name) = resource.parts();
            DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }
        };
        let request = DescribeConfigsRequest {
            resources: resources.iter().map(resource).collect(),
            include_synonyms: true,
            ..Default::default()
        };
        let response = self.handle.request(
            self.route(Route::Any),
            Request::DescribeConfigs(request),
            timeout,
        )?;
        let Response::DescribeConfigs(response) = response else {
            return Err(unexpected(&response));
        };
        Ok(response
            .results
            .into_iter()
            .map(|result| {
                told(result.error_code, result.error_message.as_ref())?;
                Ok(result
                    .configs
                    .into_iter()
                    .map(|config| ConfigEntry {
                        name: config.name.as_str().into(),
                        value: config.value.map(|value| value.as_str().into()),
                        source: config.config_source,
                        is_read_only: config.read_only,
                        is_sensitive: config.is_sensitive,
                        synonyms: config
                            .synonyms
                            .into_iter()
                            .map(|synonym| {
                                let value = synonym.value.map(|value| value.as_str().into());
                                (synonym.name.as_str().into(), value, synonym.source)
                            })
                            .collect(),
                    })
                    .collect())
            })
            .collect())
    }

    /// Replaces all that was set of resources by these names and values: what isn't named goes back to its default. Something that can't
    /// be set leaves its resource as it is. With `validate_only` nothing changes. [`Admin::incremental_alter_configs`] is the better one: it
    /// leaves alone what others have set.
    pub fn alter_configs(
        &self,
        resources: &[(ConfigResource, Vec<(String, String)>)],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let resource = |(resource, settings): &(ConfigResource, Vec<(String, String)>)| {
            let (resource_type, resource_name) = resource.parts();
            let setting = |(name, value): &(String, String)| alter_configs::AlterableConfig {
                name: name.as_str().into(),
                value: Some(value.as_str().into()),
            };
            alter_configs::AlterConfigsResource {
                resource_type,
                resource_name,
                configs: settings.iter().map(setting).collect(),
            }
        };
        let request = AlterConfigsRequest {
            resources: resources.iter().map(resource).collect(),
            validate_only,
        };
        let route = self.route(Route::Controller);
        let response = self
            .handle
            .request(route, Request::AlterConfigs(request), timeout)?;
        let Response::AlterConfigs(response) = response else {
            return Err(unexpected(&response));
        };
        let answers = response.responses.iter();
        let answers = answers.map(|r| told(r.error_code, r.error_message.as_ref()));
        Ok(answers.collect())
    }

    /// Changes single settings of resources (KIP-339). Either all changes of a resource are made, or none. With `validate_only` nothing
    /// changes.
    pub fn incremental_alter_configs(
        &self,
        resources: &[(ConfigResource, Vec<ConfigChange>)],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let resource = |(resource, changes): &(ConfigResource, Vec<ConfigChange>)| {
            let (resource_type, resource_name) = resource.parts();
            let change = |change: &ConfigChange| incremental_alter_configs::AlterableConfig {
                name: change.name.as_str().into(),
                config_operation: change.operation as i8,
                value: change.value.as_deref().map(Str::from),
            };
            incremental_alter_configs::AlterConfigsResource {
                resource_type,
                resource_name,
                configs: changes.iter().map(change).collect(),
            }
        };
        let request = IncrementalAlterConfigsRequest {
            resources: resources.iter().map(resource).collect(),
            validate_only,
        };
        let route = self.route(Route::Controller);
        let request = Request::IncrementalAlterConfigs(request);
        let response = self.handle.request(route, request, timeout)?;
        let Response::IncrementalAlterConfigs(response) = response else {
            return Err(unexpected(&response));
        };
        let answers = response.responses.iter();
        let answers = answers.map(|r| told(r.error_code, r.error_message.as_ref()));
        Ok(answers.collect())
    }
}
