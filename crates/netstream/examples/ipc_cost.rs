//! What a message from World to World costs in-process, beside a channel of the standard library (which is crossbeam's) that
//! carries the same bytes.
//!
//! ```text
//! cargo run --release -p netstream --example ipc_cost
//! ```
//!
//! Prints nanoseconds per message and the ratio to the channel of the same round: for two drivers without Worlds, and for
//! a server and a client World, beyond what two updates cost in which nothing travels; that is told too. Everything runs
//! on one thread, in batches as a tick has them.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bevy_app::{App, PreUpdate};
use bevy_ecs::prelude::*;
use netstream::driver::transport::{ChannelId, ConnectionId, Incoming};
use netstream::driver::{Clock, Credentials, IpcDriver, NetworkDriver, SystemClock};
use netstream::prelude::*;

const ROUNDS: usize = 9;
/// Messages that leave together, and of which size.
const BATCHES: [(usize, usize); 4] = [(8, 100), (32, 100), (64, 100), (32, 1000)];
const TIME: Duration = Duration::from_millis(100);

/// Nanoseconds per message, where `batch` moves `messages` of them.
fn measure(messages: usize, mut batch: impl FnMut()) -> f64 {
    let (start, mut batches) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        (0..50).for_each(|_| batch());
        batches += 50;
    }
    start.elapsed().as_nanos() as f64 / (batches * messages) as f64
}

fn channel(messages: usize, message: &[u8]) -> f64 {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    measure(messages, || {
        (0..messages).for_each(|_| sender.send(message.to_vec()).expect("somebody listens"));
        (0..messages).for_each(|_| _ = black_box(receiver.try_recv().expect("it was sent")));
    })
}

/// Two drivers without Worlds.
struct Drivers {
    clock: SystemClock,
    server: IpcDriver,
    client: IpcDriver,
    connection: ConnectionId,
}

impl Drivers {
    fn new() -> Self {
        let (hub, clock, endpoint) = (IpcHub::new(), SystemClock::new(), "ipc://arena".parse().expect("valid"));
        let (mut server, mut client) = (IpcDriver::new(&hub), IpcDriver::new(&hub));
        server.listen(clock.now(), &endpoint).expect("the name is free");
        let connection = client.connect(clock.now(), &endpoint, &Credentials::None).expect("somebody listens");
        let mut drivers = Self { clock, server, client, connection };
        (0..4).for_each(|_| drivers.exchange(0, &[]));
        drivers
    }

    fn exchange(&mut self, messages: usize, message: &[u8]) {
        let Self { clock, server, client, connection } = self;
        let now = clock.now();
        (0..messages).for_each(|_| {
            client.send(now, *connection, ChannelId::UNRELIABLE, message).expect("there is room");
        });
        client.flush(now);
        let mut arrived = 0;
        server.receive(now, &mut |incoming| {
            arrived += usize::from(matches!(black_box(incoming), Incoming::Message { .. }));
        });
        server.flush(now);
        client.receive(now, &mut |_| {});
        assert_eq!(arrived, messages);
    }
}

#[derive(Resource, Default)]
struct Arrived(usize);

fn take(mut buffers: Query<&mut IncomingCommandBuffer>, mut arrived: ResMut<Arrived>) {
    for mut buffer in &mut buffers {
        arrived.0 += buffer.drain().map(black_box).count();
    }
}

/// A server and a client World.
struct Worlds {
    server: App,
    client: App,
    connection: Entity,
}

impl Worlds {
    fn new() -> Self {
        let hub = IpcHub::new();
        let (mut server, mut client) = (App::new(), App::new());
        server.add_plugins(NetworkStreamPlugin::server().with_ipc(&hub)).init_resource::<Arrived>();
        server.add_systems(PreUpdate, take.after(NetworkStreamSystems::Receive));
        client.add_plugins(NetworkStreamPlugin::client().with_ipc(&hub));
        net(&mut server).listen("ipc://arena").expect("the name is free");
        let connection = net(&mut client).connect("ipc://arena").expect("somebody listens");
        let mut worlds = Self { server, client, connection };
        (0..10).for_each(|_| worlds.exchange(0, &[]));
        for app in [&mut worlds.server, &mut worlds.client] {
            let connection = net(app).connections().next().expect("they are connected");
            app.world_mut().entity_mut(connection).insert(NetworkStreamInGame);
        }
        worlds.exchange(0, &[]);
        worlds
    }

    fn exchange(&mut self, messages: usize, message: &[u8]) {
        let mut client = net(&mut self.client);
        (0..messages).for_each(|_| client.send_command(self.connection, message).expect("there is room"));
        self.client.update();
        self.server.update();
        let arrived = std::mem::take(&mut self.server.world_mut().resource_mut::<Arrived>().0);
        assert_eq!(arrived, messages);
    }
}

fn net(app: &mut App) -> Mut<'_, NetworkStreamDriver> {
    app.world_mut().resource_mut()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    println!("| messages of one batch | channel, ns | drivers, ns | ratio | Worlds, ns | ratio | two updates, ns |");
    println!("|---|---|---|---|---|---|---|");
    let (mut drivers, mut worlds) = (Drivers::new(), Worlds::new());
    for (messages, size) in BATCHES {
        let message = vec![7; size];
        let rounds: Vec<[f64; 4]> = (0..ROUNDS)
            .map(|_| {
                let channel = channel(messages, &message);
                let drivers = measure(messages, || drivers.exchange(messages, &message));
                let updates = measure(1, || worlds.exchange(0, &[]));
                let worlds = measure(messages, || worlds.exchange(messages, &message)) - updates / messages as f64;
                [channel, drivers, worlds, updates]
            })
            .collect();
        let of = |figure: fn(&[f64; 4]) -> f64| median(rounds.iter().map(figure).collect());
        println!(
            "| {messages} of {size} B | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} |",
            of(|round| round[0]),
            of(|round| round[1]),
            of(|round| round[1] / round[0]),
            of(|round| round[2]),
            of(|round| round[2] / round[0]),
            of(|round| round[3]),
        );
    }
}
