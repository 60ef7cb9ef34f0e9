"""verl's FSDP engine on one CPU: same losses, optimizer, micro-batches and checkpoints, another forward pass.

Nothing is sharded over one process, so the module stays bare. The forward pass runs tokens without padding, computes a
prompt once for all its episodes, and scores only what the policy wrote: verl's own pads, and scores every token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import detach_tree

from stages.shared.network import Network
from stages.train.ppo.job import Job

BACKENDS = ["fsdp", "fsdp2"]


@dataclass(frozen=True)
class Tree:
    """A micro-batch as flat tokens: distinct prompts first, then the responses that hang from them."""

    tokens: torch.Tensor
    """[N]"""
    positions: torch.Tensor
    """[N]"""
    prompt_owner: torch.Tensor
    """[prompt tokens] which prompt."""
    prompt_place: torch.Tensor
    response_owner: torch.Tensor
    """[response tokens] which episode."""
    response_place: torch.Tensor
    parent: torch.Tensor
    """[episodes] the episode's prompt."""
    prompt_lengths: torch.Tensor
    response_lengths: torch.Tensor
    before: torch.Tensor
    """[response tokens] the flat place of the token before."""

    @staticmethod
    def build(prompts: torch.Tensor, responses: torch.Tensor, attention: torch.Tensor) -> Tree:
        """From left-padded prompts [B, P], right-padded responses [B, R] and their mask [B, P + R]."""
        width = prompts.shape[1]
        asked, answered = attention[:, :width].bool(), attention[:, width:].bool()
        distinct, parent = torch.unique(prompts.masked_fill(~asked, -1), dim=0, return_inverse=True)
        known = distinct >= 0
        lengths, replies = known.sum(1), answered.sum(1)
        prompt_owner, response_owner = known.nonzero()[:, 0], answered.nonzero()[:, 0]
        starts = lengths.cumsum(0) - lengths
        prompt_place = torch.arange(len(prompt_owner)) - starts[prompt_owner]
        response_place = answered.nonzero()[:, 1]
        flat = len(prompt_owner) + torch.arange(len(response_owner))
        first = (starts + lengths - 1)[parent][response_owner]
        return Tree(
            tokens=torch.cat((distinct[known], responses[answered])),
            positions=torch.cat((prompt_place, lengths[parent][response_owner] + response_place)),
            prompt_owner=prompt_owner, prompt_place=prompt_place, response_owner=response_owner,
            response_place=response_place, parent=parent, prompt_lengths=lengths,
            response_lengths=replies, before=torch.where(response_place == 0, first, flat - 1),
        )  # fmt: skip

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal attention within prompts, and of responses to their prompt and themselves."""
        cut = len(self.prompt_owner)
        repeat = q.shape[1] // k.shape[1]
        if repeat > 1:
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        pq, pk, pv = (_pad(x[:cut], self.prompt_owner, self.prompt_place, len(self.prompt_lengths)) for x in (q, k, v))
        rq, rk, rv = (_pad(x[cut:], self.response_owner, self.response_place, len(self.parent)) for x in (q, k, v))
        asked = F.scaled_dot_product_attention(pq, pk, pv, is_causal=True)
        keys, values = torch.cat((pk[self.parent], rk), dim=2), torch.cat((pv[self.parent], rv), dim=2)
        answered = F.scaled_dot_product_attention(rq, keys, values, attn_mask=self.mask)
        return torch.cat((
            asked[self.prompt_owner, :, self.prompt_place], answered[self.response_owner, :, self.response_place]
        ))  # fmt: skip

    @cached_property
    def mask(self) -> torch.Tensor:
        """What a response token may see, [episodes, 1, longest response, longest prompt + longest response]."""
        longest, width = int(self.response_lengths.max()), int(self.prompt_lengths.max())
        prompt = torch.arange(width)[None] < self.prompt_lengths[self.parent][:, None]
        own = torch.ones(longest, longest, dtype=torch.bool).tril()
        episodes = len(self.parent)
        parts = prompt[:, None].expand(-1, longest, -1), own[None].expand(episodes, -1, -1)
        return torch.cat(parts, dim=-1)[:, None]


def _pad(x: torch.Tensor, owner: torch.Tensor, place: torch.Tensor, rows: int) -> torch.Tensor:
    """Flat [N, heads, size] to padded [rows, heads, width, size]."""
    padded = x.new_zeros(rows, int(place.max()) + 1, *x.shape[1:])
    return padded.index_put((owner, place), x).transpose(1, 2)


class CpuEngine(FSDPEngineWithLMHead):
    """The policy, and the reference it is held to."""

    def _build_module(self) -> torch.nn.Module:
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(Job.load().threads)
        config = self.model_config.hf_config
        return AutoModelForCausalLM.from_pretrained(self.model_config.local_path, dtype=torch.float32, config=config)

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        self._autocast_dtype = torch.float32
        self._network = Network(module)
        return module

    def forward_step(
        self, micro_batch: TensorDict, loss_function: Any, forward_only: bool
    ) -> tuple[torch.Tensor, dict]:
        """One micro-batch; see `BaseEngine`."""
        tree = Tree.build(micro_batch["prompts"], micro_batch["responses"], micro_batch["attention_mask"])
        output = self._output(self._network.hidden(tree.tokens, tree.positions, tree.attend), tree, micro_batch)
        if loss_function is None:
            loss, metrics = torch.tensor(1.0), {}
        else:
            loss, metrics = loss_function(
                model_output=output, data=micro_batch, dp_group=self.get_data_parallel_group()
            )
        return loss, {"model_output": detach_tree(output), "loss": loss.detach().item(), "metrics": metrics}

    def _output(self, hidden: torch.Tensor, tree: Tree, micro_batch: TensorDict) -> dict[str, torch.Tensor]:
        """Log-probability, and entropy where asked for, of every token that the policy wrote; 0 elsewhere."""
        wrote = micro_batch["response_mask"].bool()[tree.response_owner, tree.response_place]
        logits = self._network.logits(hidden[tree.before[wrote]]) / _temperature(micro_batch)
        scores = logits.log_softmax(-1)
        taken = tree.tokens[len(tree.prompt_owner) :][wrote]
        found = {"log_probs": scores.gather(1, taken[:, None])[:, 0]}
        if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
            found["entropy"] = -(scores.exp() * scores).sum(-1)
        places = _before(tree, micro_batch)[wrote]
        return {name: _spread(values, places, micro_batch) for name, values in found.items()}


class CpuValueEngine(CpuEngine):
    """The critic."""

    def _build_module(self) -> torch.nn.Module:
        from transformers import AutoModelForTokenClassification

        torch.set_num_threads(Job.load().threads)
        config = self.model_config.hf_config
        config.num_labels, config.classifier_dropout = 1, 0.0
        torch.manual_seed(Job.load().seed)
        return AutoModelForTokenClassification.from_pretrained(
            self.model_config.local_path, dtype=torch.float32, config=config
        )

    def _output(self, hidden: torch.Tensor, tree: Tree, micro_batch: TensorDict) -> dict[str, torch.Tensor]:
        """The value before every token of the response."""
        values = self.module.score(hidden[tree.before])[:, 0]
        return {"values": _spread(values, _before(tree, micro_batch), micro_batch)}


def _temperature(micro_batch: TensorDict) -> Any:
    return micro_batch["temperature"]


def _before(tree: Tree, micro_batch: TensorDict) -> torch.Tensor:
    """Where verl looks for what was said of each response token: the place before it in its own unpadded sequence."""
    starts = micro_batch["input_ids"].offsets()[:-1]
    lengths = tree.prompt_lengths[tree.parent]
    return (starts + lengths)[tree.response_owner] + tree.response_place - 1


def _spread(values: torch.Tensor, places: torch.Tensor, micro_batch: TensorDict) -> torch.Tensor:
    """Values as verl's nested tensor over prompts and responses, 0 where there is none."""
    offsets = micro_batch["input_ids"].offsets()
    flat = values.new_zeros(int(offsets[-1])).index_put((places,), values)
    return torch.nested.nested_tensor_from_jagged(flat, offsets)


def install() -> None:
    """Register both engines for the device "cpu"; once a process."""
    for kind, engine in (("language_model", CpuEngine), ("value_model", CpuValueEngine)):
        if "cpu" not in EngineRegistry._engines[kind]["fsdp2"]:
            EngineRegistry.register(model_type=kind, backend=BACKENDS, device="cpu")(engine)
