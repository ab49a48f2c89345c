//! `netstream-bench WORKLOAD`: netstream beside a hand-written floor and other libraries. See the README of this crate.

mod compare;
mod end;
mod game;
mod instructions;
mod measure;
mod peers;
mod roles;

use std::process::ExitCode;

use lexopt::prelude::*;

use crate::compare::Comparison;
use crate::game::Workload;
use crate::peers::Peer;
use crate::roles::Run;

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

const USAGE: &str =
    "netstream-bench WORKLOAD [--clients N] [--runs 5] [--seconds 2] [--peers floor,netstream,...] [--json]
netstream-bench instructions send|receive|ecs
workloads: tick rpc stream stream1 fragments join pingpong idle
peers:     floor netstream netstream-chacha20 netstream-ecs netstream-ecs-chacha20 renet2 renet enet quinn";

enum Role {
    Compare,
    Server,
    Crowd(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = lexopt::Parser::from_env();
    let (mut workload, mut clients, mut role) = (None, None, Role::Compare);
    let (mut runs, mut seconds, mut json, mut peers) = (5, 2.0, false, Peer::ALL.to_vec());
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(name) if workload.is_none() && name == "instructions" => {
                let work = arguments.value()?.string()?;
                return instructions::run(&work).ok_or_else(|| format!("no work {work}").into());
            }
            Value(name) if workload.is_none() => {
                let name = name.string()?;
                workload = Some((Workload::parse(&name).ok_or_else(|| format!("no workload {name}"))?, name));
            }
            Long("clients") => clients = Some(arguments.value()?.parse()?),
            Long("runs") => runs = arguments.value()?.parse()?,
            Long("seconds") => seconds = arguments.value()?.parse()?,
            Long("json") => json = true,
            Long("peers") => {
                let names = arguments.value()?.string()?;
                let find = |name: &str| Peer::parse(name).ok_or_else(|| format!("no peer {name}"));
                peers = names.split(',').map(find).collect::<Result<_, _>>()?;
            }
            // The parts of one run, as processes of their own.
            Long("server") => role = Role::Server,
            Long("crowd") => role = Role::Crowd(arguments.value()?.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let (workload, name) = workload.ok_or("no workload")?;
    let clients = clients.unwrap_or(workload.clients());
    let one = |peers: &[Peer]| Run { peer: peers[0], workload, clients, seconds };
    match role {
        Role::Server => println!("{}", serde_json::to_string(&roles::serve(&one(&peers)))?),
        Role::Crowd(address) => println!("{}", serde_json::to_string(&roles::crowd(&one(&peers), &address))?),
        Role::Compare => Comparison { workload, name, clients, runs, seconds, peers }.run(json)?,
    }
    Ok(())
}
