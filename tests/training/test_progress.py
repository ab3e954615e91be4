import pytest

from tf_dcnv2.training import RunProgress, RunState, TrainOptions


def begin(state=None, **budget):
    return RunProgress.begin(
        TrainOptions("preset", "records", "run", batch_size=2, **budget), num_images=21, state=state or RunState()
    )


@pytest.mark.parametrize(
    ("budget", "steps", "epochs"),
    [
        ({"steps": 20}, 20, 2),
        ({"steps": 25}, 25, 3),
        ({"epochs": 3}, 30, 3),
        ({"steps": 25, "epochs": 2}, 20, 2),
        ({"steps": 5, "epochs": 2}, 5, 1),
        ({"max_minutes": 1}, None, None),
    ],
)
def test_the_steps_and_epochs_of_a_run_follow_from_its_budget(budget, steps, epochs):
    progress = begin(**budget)
    assert (progress.budget.steps, progress.epochs, progress.steps_per_epoch) == (steps, epochs, 10)


def test_the_epochs_of_a_resumed_run_are_those_it_had_and_those_it_needs():
    # Its second epoch of ten steps was cut short after five.
    progress = begin(RunState(steps=15, epochs=2, seconds=90.0, is_finished=True), steps=30, max_minutes=3)
    assert progress.epochs == 4
    assert progress.budget.steps_done == 15
    assert progress.budget.progress == pytest.approx(0.5, abs=0.01)


def end_epoch(progress, epoch, steps, **logs):
    for _ in range(steps):
        progress.budget.count_step()
    progress.end_epoch(epoch, {"loss": 1.0, **logs})
    return progress.state


def test_the_highest_ap_so_far_is_the_best():
    progress = begin(RunState(steps=10, epochs=1, best_ap=0.4, best_steps=10), steps=45)
    assert not end_epoch(progress, 1, 10, val_AP=0.3).is_best
    assert not end_epoch(progress, 2, 10, val_AP=0.4).is_best
    state = end_epoch(progress, 3, 10, val_AP=0.5)
    assert (state.is_best, state.best_ap, state.best_steps) == (True, 0.5, 40)
    state = end_epoch(progress, 4, 5, val_AP=float("nan"))
    assert (state.is_best, state.best_ap, state.best_steps) == (False, 0.5, 40)
    assert (state.steps, state.epochs, state.is_finished) == (45, 5, True)
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]


def test_a_run_without_an_evaluation_has_no_best():
    assert not RunState().is_best
    state = end_epoch(begin(steps=20), 0, 10)
    assert (state.is_best, state.best_ap, state.is_finished) == (False, -1.0, False)
