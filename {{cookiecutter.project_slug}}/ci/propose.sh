#!/bin/sh
{% if cookiecutter.ci == "github" %}
# Opens a pull request with what `make update` (template) or `make lock` (lock) changes:
{% else %}
# Opens a merge request with what `make update` (template) or `make lock` (lock) changes:
{% endif %}
#
#   sh ci/propose.sh template
#   sh ci/propose.sh lock
#
# As long as its branch exists in the repository, nothing is proposed a second time.
set -eu

{% if cookiecutter.ci == "github" %}
export GIT_AUTHOR_NAME="github-actions[bot]"
export GIT_AUTHOR_EMAIL="41898282+github-actions[bot]@users.noreply.github.com"
{% else %}
export GIT_AUTHOR_NAME="$GITLAB_USER_NAME"
export GIT_AUTHOR_EMAIL="$GITLAB_USER_EMAIL"
{% endif %}
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME"
export GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"

has_conflicts() {
    git rev-parse --quiet --verify CHERRY_PICK_HEAD >/dev/null
}

base=$(git branch --show-current)
conflicts=
case ${1:-} in
template)
    made_by="make update"
    # make has one exit code for all failures.
    $made_by || has_conflicts
    if has_conflicts; then
        conflicts=$(git diff --name-only --diff-filter=U | tr '\n' ' ')
        git add --all
        git -c core.editor=true cherry-pick --continue
    fi
    ;;
lock)
    made_by="make lock"
    $made_by
    if ! git diff --quiet -- constraints.txt; then
        git switch --quiet --create newer-dependencies
        git commit --quiet --message "Renew the versions in constraints.txt" constraints.txt
    fi
    ;;
*)
    echo "Usage: sh ci/propose.sh template|lock" >&2
    exit 64
    ;;
esac

branch=$(git branch --show-current)
if [ "$branch" = "$base" ]; then
    echo "There is nothing to propose."
    exit
fi
{% if cookiecutter.ci == "github" %}
gh auth setup-git
{% endif %}
if git ls-remote --exit-code origin "refs/heads/$branch" >/dev/null; then
    echo "$branch has been proposed before. Delete it in the repository to propose it again."
    exit
fi

title=$(git log -1 --format=%s)
body="\`$made_by\` has made this change."
if [ -n "$conflicts" ]; then
    title="$title (with conflicts)"
    body="$body Resolve the conflicts, which are marked in these files: $conflicts"
fi
{% if cookiecutter.ci == "github" %}
# What the commit says is to be done by hand.
body="$body

$(git log -1 --format=%b)"
git push --quiet origin "$branch"
if ! gh pr create --base "$base" --head "$branch" --title "$title" --body "$body"; then
    # So that the next run tries again.
    git push --quiet origin --delete "$branch"
    exit 1
fi
gh workflow run ci.yml --ref "$branch"
{% else %}
git push --quiet --push-option=merge_request.remove_source_branch \
    --push-option=merge_request.create --push-option="merge_request.target=$base" \
    --push-option="merge_request.title=$title" --push-option="merge_request.description=$body" \
    origin "$branch"
{% endif %}
