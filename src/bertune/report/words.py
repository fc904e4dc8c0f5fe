"""The page's words, in English and Chinese."""

from collections.abc import Mapping

_WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("Report", "报告"),
    "verdict": ("Verdict", "结论"),
    "rows": ("rows", "行"),
    "of": ("on {rows} rows of {data}", "基于 {data} 的 {rows} 行"),
    "interval": ("95 % interval", "95 % 置信区间"),
    "better": ("Above every simple method.", "高于所有简单基线。"),
    "worse": ("Not above {names}: the model has learnt little that simple methods do not.",
              "不高于 {names}：模型没有学到比简单基线更多的东西。"),
    "metrics": ("Metrics", "指标"),
    "metric": ("metric", "指标"),
    "value": ("value", "值"),
    "simple": ("Simple methods on the same rows", "同样数据上的简单基线"),
    "run": ("The run", "训练信息"),
    "curves": ("Curves", "训练曲线"),
    "step": ("update", "步"),
    "classes": ("Classes", "各类别"),
    "label": ("label", "标签"),
    "precision": ("precision", "精确率"),
    "recall": ("recall", "召回率"),
    "confusion": ("Confusion", "混淆矩阵"),
    "true": ("true", "真实"),
    "answer": ("answer", "预测"),
    "confused": ("Confused most often", "最常混淆"),
    "entities": ("Entities: kinds of errors", "实体错误类型"),
    "kinds": ("right: label and characters; boundary: other characters; type: another label; both: overlapping, with "
              "another label; missed: no answer there; spurious: nothing there",
              "right：标签和位置都对；boundary：位置不同；type：标签不同；both：有重叠但标签不同；missed：漏掉；spurious：多余"),
    "numbers": ("Predicted and true values", "预测值与真实值"),
    "predicted": ("predicted", "预测值"),
    "reliability": ("Can the scores be trusted?", "分数可信吗？"),
    "ece": ("Expected calibration error {ece}: the mean distance between a score and how often answers of that score "
            "are right (0 is best).", "期望校准误差 {ece}：分数与实际正确率之间的平均差距（0 最好）。"),
    "score": ("score", "分数"),
    "accuracy": ("accuracy", "准确率"),
    "coverage": ("How much could be automated?", "多少可以自动处理？"),
    "share": ("share of rows, surest first", "保留的比例（分数从高到低）"),
    "automate": ("{accuracy} accuracy: the surest {share} of the rows, with scores of at least {score}.",
                 "准确率 {accuracy}：分数最高的 {share} 的行，分数不低于 {score}。"),
    "automate_none": ("{accuracy} accuracy: no share of the rows has it.", "准确率 {accuracy}：任何比例都达不到。"),
    "slices": ("Where it is better or worse", "分组表现"),
    "slice": ("rows", "分组"),
    "difference": ("against the rest", "与其余之差"),
    "corrected": ("p, corrected for the number of tests", "p（已按检验次数校正）"),
    "no_slices": ("No group has 30 rows.", "没有达到 30 行的分组。"),
    "errors": ("Errors, the surest first", "错误（分数最高的在前）"),
    "errors_count": ("{all} rows are wrong, {shown} are shown; all of them are in {file}.",
                     "共有 {all} 行错误，此处显示 {shown} 行；全部在 {file} 中。"),
    "suspects": ("Labels that may be wrong", "可能标错的标签"),
    "suspects_note": ("Rows whose label disagrees with a class that the model is as sure of as it usually is "
                      "(confident learning). Look at them before you trust the figures above.",
                      "模型对另一类别的把握达到该类别的通常水平（置信学习）。在相信上面的数字之前请先检查。"),
    "contrary": ("Equal texts with other labels", "文本相同但标签不同"),
    "lengths": ("Lengths", "长度"),
    "tokens": ("tokens", "词元数"),
    "cut": ("{cut} of {rows} rows are longer than the model reads; their ends are not seen.",
            "{rows} 行中有 {cut} 行超过模型长度，末尾未被读取。"),
    "place": ("line", "行号"),
    "text": ("text", "文本"),
    "hidden": ("Texts are left out.", "文本已省略。"),
}  # fmt: skip


def words(language: str) -> dict[str, str]:
    """All words in a language: en or zh."""
    return {name: pair[language == "zh"] for name, pair in _WORDS.items()}
