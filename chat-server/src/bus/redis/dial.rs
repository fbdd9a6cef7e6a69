//! Making a link: two connections, two subscriptions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, Value, cmd,
};
use socket2::TcpKeepalive;

use super::inbox::Inbox;
use super::outgoing::Channel;
use super::{Alarm, CONNECT_TIMEOUT, Failure, LINK_TIMEOUT, RESPONSE_TIMEOUT, RedisBusError};
use crate::store::NodeId;

/// The first version whose clusters have sharded channels.
const FIRST_SHARDED: u32 = 7;

/// Other nodes of a Redis cluster that are asked when one does not know where a channel is.
const REDIRECTS: u32 = 3;

/// TCP's own signs of life: after so long a silence, so often, so many times. Between them and the answers that publishing
/// waits for, nothing can be silent for ever.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);

/// How long what was written may stay without TCP's confirmation.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach Redis, and what to do there.
pub(super) struct Dialler {
    info: ConnectionInfo,
    place: String,
    /// What the channels' names begin with.
    prefix: String,
    node: NodeId,
    inbox: Arc<Inbox>,
}

/// Two connections, of which one is subscribed to the node's channels.
pub(super) struct Link {
    publisher: Connection,
    /// Only kept: closed when dropped.
    _subscriber: Connection,
    alarm: Arc<Alarm>,
    prefix: String,
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What Redis said to a payload: how many listened.
pub(super) type Published = RedisResult<u64>;

impl Dialler {
    /// # Errors
    ///
    /// The URL makes no sense. The password in it is not shown.
    pub(super) fn new(url: &str, node: NodeId, inbox: Arc<Inbox>) -> Result<Self, RedisBusError> {
        let info = url.into_connection_info().map_err(|error| RedisBusError::Url(error.to_string()))?;
        let (after, every, times) = KEEPALIVE;
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(after).with_interval(every).with_retries(times))
            .set_user_timeout(USER_TIMEOUT);
        let settings = info.redis_settings().clone();
        let prefix = format!("chat:{}:", settings.db());
        let settings = settings
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            // Channels are the same in all databases, and a cluster has but one.
            .set_db(0);
        let place = info.addr().to_string();
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        Ok(Self { info, place, prefix, node, inbox })
    }

    /// Host and port, for logs and errors.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Makes a link, within [`LINK_TIMEOUT`].
    pub(super) async fn dial(&self) -> Result<Link, Failure> {
        tokio::time::timeout(LINK_TIMEOUT, self.make()).await.unwrap_or(Err(Failure::TooSlow))
    }

    async fn make(&self) -> Result<Link, Failure> {
        let alarm = Arc::new(Alarm::default());
        let publisher = self.single(publishing(&alarm)).await?;
        let (publisher, mut subscriber) = if is_cluster(publisher.clone()).await? {
            let publisher = Connection::Cluster(self.cluster(publishing(&alarm)).await?);
            (publisher, Connection::Cluster(self.cluster(subscribing(&alarm, &self.inbox)).await?))
        } else {
            let subscriber = self.single(subscribing(&alarm, &self.inbox)).await?;
            (Connection::Single(publisher), Connection::Single(subscriber))
        };
        for channel in [Channel::Node(self.node), Channel::All] {
            subscriber.subscribe(format!("{}{channel}", self.prefix)).await?;
        }
        Ok(Link { publisher, _subscriber: subscriber, alarm, prefix: self.prefix.clone() })
    }

    async fn single(
        &self,
        pushed: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_push_sender(pushed);
        Client::open(self.info.clone())?.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn cluster(
        &self,
        pushed: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> RedisResult<ClusterConnection> {
        let client = ClusterClientBuilder::new([self.info.clone()])
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(self.info.tcp_settings().clone())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(REDIRECTS)
            .push_sender(pushed)
            .build()?;
        client.get_async_connection().await
    }
}

/// What is done with what the publisher's connection says unasked.
fn publishing(alarm: &Arc<Alarm>) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    let alarm = Arc::clone(alarm);
    move |info| {
        if info.kind == PushKind::Disconnection {
            alarm.ring("the publisher's connection was lost");
        }
        Ok(())
    }
}

/// What is done with what the subscriber's connection says.
fn subscribing(alarm: &Arc<Alarm>, inbox: &Arc<Inbox>) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    let (alarm, inbox) = (Arc::clone(alarm), Arc::clone(inbox));
    move |mut info| {
        match info.kind {
            // The channel, and what was published there.
            PushKind::Message | PushKind::SMessage => match info.data.pop() {
                Some(Value::BulkString(payload)) => inbox.payload(payload),
                Some(Value::SimpleString(payload)) => inbox.payload(payload.into_bytes()),
                _ => {}
            },
            PushKind::Disconnection => alarm.ring("the subscriber's connection was lost"),
            PushKind::Unsubscribe | PushKind::SUnsubscribe => alarm.ring("Redis took a channel away"),
            _ => {}
        }
        Ok(())
    }
}

/// Whether this Redis is a cluster with sharded channels.
async fn is_cluster(mut connection: MultiplexedConnection) -> Result<bool, Failure> {
    let hello: Value = cmd("HELLO").arg(3).query_async(&mut connection).await?;
    let field = |name: &str| {
        let fields = hello.as_map_iter()?;
        let text = |value: &Value| redis::from_redis_value_ref::<String>(value).ok();
        fields.into_iter().find(|(key, _)| text(key).as_deref() == Some(name)).and_then(|(_, value)| text(value))
    };
    if field("mode").as_deref() != Some("cluster") {
        return Ok(false);
    }
    let version = field("version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < FIRST_SHARDED) {
        return Err(Failure::Lacks(format!(
            "a Redis cluster needs version {FIRST_SHARDED} or newer, this is {version}"
        )));
    }
    Ok(true)
}

impl Link {
    pub(super) fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// Whether the channels are sharded ones.
    pub(super) fn is_sharded(&self) -> bool {
        matches!(self.publisher, Connection::Cluster(_))
    }

    /// Publishes payloads, each channel's in their order. Returns what Redis said to each.
    ///
    /// # Errors
    ///
    /// Redis said nothing: it is not known what was published.
    pub(super) async fn publish(&self, payloads: &[(Channel, Bytes)]) -> Result<Vec<Published>, RedisError> {
        match self.publisher.clone() {
            Connection::Single(mut connection) => {
                let mut pipeline = Pipeline::with_capacity(payloads.len());
                for (channel, payload) in payloads {
                    self.add(&mut pipeline, "PUBLISH", *channel, payload);
                }
                pipeline.ignore_errors().query_async(&mut connection).await
            }
            Connection::Cluster(connection) => self.publish_sharded(&connection, payloads).await,
        }
    }

    /// A pipeline goes to one shard, so there is one for each channel.
    async fn publish_sharded(
        &self,
        connection: &ClusterConnection,
        payloads: &[(Channel, Bytes)],
    ) -> Result<Vec<Published>, RedisError> {
        let mut channels: Vec<(Channel, Vec<usize>)> = Vec::new();
        for (at, (channel, _)) in payloads.iter().enumerate() {
            match channels.iter_mut().find(|(known, _)| known == channel) {
                Some((_, places)) => places.push(at),
                None => channels.push((*channel, vec![at])),
            }
        }
        let answers = join_all(channels.iter().map(|(channel, places)| {
            let (mut connection, mut pipeline) = (connection.clone(), Pipeline::with_capacity(places.len()));
            for &at in places {
                self.add(&mut pipeline, "SPUBLISH", *channel, &payloads[at].1);
            }
            async move { pipeline.ignore_errors().query_async::<Vec<Published>>(&mut connection).await }
        }));
        let mut published: Vec<Published> = payloads.iter().map(|_| Ok(0)).collect();
        for ((_, places), answers) in channels.iter().zip(answers.await) {
            for (&at, answer) in places.iter().zip(answers?) {
                published[at] = answer;
            }
        }
        Ok(published)
    }

    fn add(&self, pipeline: &mut Pipeline, command: &str, channel: Channel, payload: &Bytes) {
        pipeline.cmd(command).arg(format!("{}{channel}", self.prefix)).arg(&payload[..]);
    }
}

impl Connection {
    /// Returns when Redis has confirmed it.
    async fn subscribe(&mut self, channel: String) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.ssubscribe(channel).await,
        }
    }
}
