"""verl's FSDP engine on one CPU: same losses, optimizer, micro-batches and checkpoints, another forward pass.

Nothing is sharded over one process, so the module stays bare. The forward pass runs tokens without padding, computes a
prompt once for all its episodes, and scores only what the policy wrote: verl's own pads, and scores every token.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    sibling: torch.Tensor
    """[episodes] its place among the episodes of that prompt."""
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
        sibling = (parent[:, None] == parent[None]).tril(-1).sum(1)
        return Tree(
            tokens=torch.cat((distinct[known], responses[answered])),
            positions=torch.cat((prompt_place, lengths[parent][response_owner] + response_place)),
            prompt_owner=prompt_owner, prompt_place=prompt_place, response_owner=response_owner,
            response_place=response_place, parent=parent, sibling=sibling, prompt_lengths=lengths,
            response_lengths=replies, before=torch.where(response_place == 0, first, flat - 1),
        )  # fmt: skip

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal attention within prompts, and of responses to their prompt and themselves."""
        cut = len(self.prompt_owner)
        repeat = q.shape[1] // k.shape[1]
        if repeat > 1:
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        pq, pk, pv = (self._prompts(x[:cut]) for x in (q, k, v))
        asked = F.scaled_dot_product_attention(pq, pk, pv, is_causal=True)
        answered = self._answer(q[cut:], k[cut:], v[cut:], pk, pv)
        return torch.cat((asked[self.prompt_owner, :, self.prompt_place], answered))

    def _prompts(self, x: torch.Tensor) -> torch.Tensor:
        shape = (len(self.prompt_lengths), int(self.prompt_lengths.max()), *x.shape[1:])
        return x.new_zeros(shape).index_put((self.prompt_owner, self.prompt_place), x).transpose(1, 2)

    def _answer(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pk: torch.Tensor, pv: torch.Tensor
    ) -> torch.Tensor:
        longest = int(self.response_lengths.max())
        prompts, share = len(self.prompt_lengths), int(self.sibling.max()) + 1
        heads, size = q.shape[1:]
        where = (self.parent[self.response_owner], self.sibling[self.response_owner], self.response_place)
        shape = (prompts, share, longest, heads, size)
        grouped = (x.new_zeros(shape).index_put(where, x).permute(0, 3, 1, 2, 4) for x in (q * size**-0.5, k, v))
        gq, gk, gv = grouped
        rows = gq.reshape(prompts, heads, share * longest, size)
        far = (rows @ pk.transpose(-1, -2)).view(prompts, heads, share, longest, -1)
        hidden = torch.arange(pk.shape[2])[None] >= self.prompt_lengths[:, None]
        far = far.masked_fill(hidden[:, None, None, None], float("-inf"))
        later = torch.ones(longest, longest, dtype=torch.bool).triu(1)
        near = (gq @ gk.transpose(-1, -2)).masked_fill(later, float("-inf"))
        weights = torch.cat((far, near), dim=-1).softmax(-1)
        split = pk.shape[2]
        mixed = (weights[..., :split].reshape(prompts, heads, share * longest, split) @ pv).view_as(gq)
        mixed = mixed + weights[..., split:] @ gv
        return mixed.permute(0, 2, 3, 1, 4)[where]


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

    def forward_step(self, micro_batch: TensorDict, loss_function: Any, forward_only: bool) -> tuple[torch.Tensor, dict]:
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
