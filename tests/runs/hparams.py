"""Reads the runs below a folder as TensorBoard's HParams page does, and prints them as JSON.

Usage: hparams.py FOLDER. For each run: its status, its hyperparameters, and the last value of each scalar.
"""

import json
import sys

from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

STATUS = {value: name for name, value in api_pb2.Status.items()}


def value(message):
    return getattr(message, message.WhichOneof("kind"))


def main(folder):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(folder)
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, folder)
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request_context, experiment_id = RequestContext(), "experiment"
    tags = context.hparams_metadata(request_context, experiment_id)
    hyperparameters = context.hparams_from_data_provider(request_context, experiment_id, limit=None)
    experiment = context.experiment_from_metadata(
        request_context, experiment_id, True, tags, hyperparameters
    )
    columns = [api_pb2.ColParams(metric=metric.name) for metric in experiment.metric_infos]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=list(STATUS), col_params=columns, start_index=0, slice_size=1000, include_metrics=True
    )
    groups = list_session_groups.Handler(request_context, context, experiment_id, request).run().session_groups
    runs = {}
    for group in groups:
        for session in group.sessions:
            runs[session.name] = {
                "status": STATUS[session.status],
                "hyperparameters": {name: value(found) for name, found in group.hparams.items()},
                "scalars": {found.name.tag: found.value for found in session.metric_values},
            }
    print(json.dumps(runs))


if __name__ == "__main__":
    main(sys.argv[1])
