"One training on several GPUs or machines: the same command under `accelerate launch`."
import torch
from accelerate import Accelerator
from fastai.distributed import DistributedDL, DistributedTrainer


class SharedDL(DistributedDL):
    "Loader whose batches are dealt out to the processes, with NCCL or Gloo."
    shared = True
    def _broadcast(self, t, rank):
        if torch.distributed.get_backend() == "nccl": return super()._broadcast(t, rank)
        t = torch.tensor(list(t))
        torch.distributed.broadcast(t, rank)
        return t.tolist()


class Distributed(DistributedTrainer):
    "fastai callback: this process trains the model together with the others."
    def __init__(self): super().__init__(sync_bn=torch.cuda.is_available())  # batch statistics of all faces on GPUs, of one's own on CPUs
    def _wrap_dl(self, dl): return dl if isinstance(dl, DistributedDL) else SharedDL(dl, device=next(self.learn.model.parameters()).device)


def join() -> None:
    "Connect to the other processes."
    if not torch.distributed.is_initialized(): Accelerator()
