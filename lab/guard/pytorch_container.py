"""Starts a script on several hosts through torchrun, as the training module of AWS's PyTorch container does.

That module (`sagemaker_pytorch_container.training`) lies in the image alone. Like it, this one asks AWS's training
toolkit for its torchrun runner; two things differ. The port is the job's own, where the toolkit's is always 7777: jobs
of the desk share a machine. And the first host's name is given as a loopback address: torch resolves it in C, where the
guard cannot.
"""

from __future__ import annotations

import os

from sagemaker_training import entry_point, environment, torch_distributed

LOOPBACK = "127.0.0.1"


class Runner(torch_distributed.TorchDistributedRunner):  # type: ignore[misc]
    """The toolkit's runner, with an address and a port that this machine has."""

    def _create_command(self) -> list[str]:
        command: list[str] = super()._create_command()
        for option, value in (("--master_addr", LOOPBACK), ("--master_port", os.environ.get("LAB_MASTER_PORT"))):
            if option in command and value:
                command[command.index(option) + 1] = value
        return command


def main() -> None:
    """What SAGEMAKER_TRAINING_MODULE names: runs the user's script to its end."""
    env = environment.Environment()
    runner = Runner(
        env.user_entry_point, env.to_cmd_args(), env.to_env_vars(), max(1, int(env.num_gpus)), env.master_hostname,
        env.distribution_hosts, env.current_host, env.network_interface_name,
        instance_type=env.current_instance_type,
    )  # fmt: skip
    entry_point.run(
        uri=env.module_dir,
        user_entry_point=env.user_entry_point,
        args=env.to_cmd_args(),
        env_vars=env.to_env_vars(),
        capture_error=True,
        runner_type=runner,
    )
