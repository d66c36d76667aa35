//! `up --runtime process`: the functions' own binaries, invoked as Lambda invokes them. As many execution environments of a
//! function as calls at a time, up to its reserved concurrency; each is frozen while it has nothing to do.

mod binaries;
mod iot;
mod log;
mod pool;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;

use streammanager::time::Rng;
use streammanager_mqtt_endpoint::Endpoint;
use tokio_util::sync::CancellationToken;

use super::backends::Backends;
use super::options::{Destination, Options, Runtime};
use crate::exit::Failure;
use crate::runtime::Function;
use crate::template::{ACCOUNT, Template};
pub(crate) use pool::{Pool, Uninvoked};
pub use variables::Surroundings;

/// Properties of a function that hold for processes and for nothing else here.
const HONOURED: [&str; 3] = ["MemorySize", "ProvisionedConcurrencyConfig", "ReservedConcurrentExecutions"];

/// What the binaries need and only flags can name; said before anything is started.
pub(crate) fn check(args: &Options) -> Result<(), Failure> {
    if !matches!(args.runtime, Runtime::Process { .. }) {
        return Ok(());
    }
    let aws = (args.aws == "embedded").then_some("--aws URL");
    let built_in = matches!(args.destination, Destination::Embedded(_));
    let kafka = built_in.then_some("--kafka HOST:PORT or --kinesis URL");
    let missing: Vec<&str> = aws.into_iter().chain(kafka).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--runtime process needs {}: Lambda's binaries speak to an AWS endpoint and to brokers or Kinesis, never to the queues, state and Kafka that are built in here",
        missing.join(" and ")
    )))
}

/// One pool a function, by logical id; none where the handlers run in this process.
pub(crate) async fn start(
    args: &Options,
    template: &Template,
    backends: &Backends,
    mqtt: &Endpoint,
    rng: &Rng,
    work: &CancellationToken,
) -> Result<BTreeMap<String, Pool>, Failure> {
    let (Runtime::Process { functions: folder }, Some(aws)) = (&args.runtime, &backends.aws) else {
        return Ok(BTreeMap::new());
    };
    let confirmations = iot::serve(mqtt.clone(), rng).await?;
    let host = std::env::vars().collect();
    let destination = &args.destination;
    let told = Surroundings { aws, destination, confirmations: &confirmations, host: &host };
    let mut pools = BTreeMap::new();
    for (function, process) in template.functions.iter().zip(described(template, folder, &told)?) {
        // Delivery runs for minutes, and nothing is lost when it ends at once: what it has in hand comes back.
        let ends = if function.binary == "deliver" { work.clone() } else { CancellationToken::new() };
        let pool = Pool::new(process, function.logical_id.clone(), function.timeout, function.reserved, ends);
        pools.insert(function.logical_id.clone(), pool);
    }
    for function in &template.functions {
        pools[&function.logical_id].provision(function.provisioned).await?;
    }
    Ok(pools)
}

/// The template's functions, in its order, as processes of these binaries.
///
/// # Errors
/// For a binary that is missing; it names how it is built.
pub fn described(template: &Template, folder: &Path, told: &Surroundings<'_>) -> Result<Vec<Function>, Failure> {
    let programs = binaries::find(folder, template.functions.iter().map(|function| function.binary.as_str()))?;
    let described = template.functions.iter().map(|function| Function {
        name: function.name.clone(),
        region: told.aws.region.clone(),
        account: ACCOUNT.to_owned(),
        program: programs[&function.binary].clone(),
        environment: variables::of(function, told),
        memory: function.memory,
    });
    Ok(described.collect())
}

/// What of the template is honoured by processes is not named as what is not.
pub(crate) fn strike_honoured(template: &mut Template) {
    template.unsupported.retain(|unsupported| !HONOURED.contains(&unsupported.property.as_str()));
}
